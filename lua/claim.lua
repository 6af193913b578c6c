-- Domain claim: execution.md, section 5.

local F = F
local NONE = 9007199254740992

-- The heads of one claim_next that it ends or drops, at most.
local MAX_ENDED = 64
local MAX_PAYLOAD = 4194304
local MAX_INPUTS = 256
local MAX_CANDIDATES = 16

-- Whether this is the claim that made the lease of x. Without `kind`, of whatever kind it was.
local function is_repeat(c, x, lease, holder, attempt, kind)
	return x.s == 5 and x.lid == lease and x.lexp > c.now and x.holder == holder and (not kind or x.lkind == kind)
		and (x.lkind == 2 or x.aid == attempt)
end

-- Whether the lease index holds this lease of x in earnest: a record decides, never an entry that a crash left.
local function in_use(x, lease)
	return x and x.s == 5 and x.lid == lease
end

-- Why x, by its vector alone, is not to be claimed: nil if it is READY.
local WHY = { false, 'delayed', 'dependencies', 'blocked', 'not_runnable', 'not_runnable', 'not_runnable',
	'not_runnable', 'not_runnable' }

-- Refuses what is not READY or not to be handed out.
local function eligible(c, x)
	local why = WHY[x.s]
	if not why then
		if F.covered(c, x) then
			why = 'flow_cancelled'
		elseif x.deadline <= c.now then
			why = 'deadline_passed'
		end
	end
	if why then
		return { '!', 'execution_not_eligible', F.summary(x), why }
	end
	return nil
end

-- Refuses what is not LOST or REVOKED or not to be handed out. `lapsed` also takes a lease that ran out unmarked.
local function reclaimable(c, x, lapsed)
	local why
	if x.s ~= 6 and x.s ~= 7 and not (lapsed and x.s == 5 and x.lexp <= c.now) then
		why = 'not_lost'
	elseif x.nb ~= NONE then
		why = 'delayed'
	elseif x.ext.bl then
		why = 'blocked'
	elseif F.covered(c, x) then
		why = 'flow_cancelled'
	elseif x.deadline <= c.now then
		why = 'deadline_passed'
	end
	if why then
		return { '!', 'execution_not_reclaimable', F.summary(x), why }
	end
	return nil
end

-- The tokens of the required set (comma-joined, sorted) that are not among `has`, joined by commas.
local function missing(set, has)
	local out
	for token in string.gmatch(set, '[^,]+') do
		if not has[token] then
			out = out and out .. ',' .. token or token
		end
	end
	return out
end

local function tokens(list)
	local has = {}
	for i = 1, #list do
		has[list[i]] = true
	end
	return has
end

local function token_set(joined)
	local has = {}
	for token in string.gmatch(joined, '[^,]+') do
		has[token] = true
	end
	return has
end

-- The grant, if it lives.
local function live_grant(c, x)
	local g = x.ext.gr
	if g and g[3] > c.now then
		return g
	end
	return nil
end

-- Refuses a grant: another's lives, or the worker lacks required tokens.
local function may_grant(c, x, holder, capabilities)
	local g = live_grant(c, x)
	if g then
		if g[1] == holder then
			return nil
		end
		return { '!', 'grant_already_exists', g[3] }
	end
	local _, set = F.split(x.route)
	local lacks = missing(set, tokens(capabilities))
	if lacks then
		return { '!', 'capability_mismatch', lacks }
	end
	return nil
end

-- Gives the grant, unless the holder has it already.
local function give(c, x, holder, ttl)
	if not live_grant(c, x) then
		x.ext.gr = { holder, c.now, F.after(c.now, ttl) }
		F.touch(c, x)
	end
end

-- ff_issue_claim_grant. a: 2 id, 3 holder, 4 capabilities, 5 ttl. Reply: { 'granted', record }.
local function issue_claim_grant(c, a, x)
	local refused = eligible(c, x) or may_grant(c, x, a[3], a[4])
	if refused then
		return refused
	end
	give(c, x, a[3], a[5])
	F.finish(c)
	return { 'granted', F.encode(x) }
end

-- ff_issue_reclaim_grant. a: as ff_issue_claim_grant. Reply: { 'granted', record } | { 'ended', summary }.
local function issue_reclaim_grant(c, a, x)
	local refused = reclaimable(c, x, true) or may_grant(c, x, a[3], a[4])
	if refused then
		return refused
	end
	if x.s == 5 then
		F.lose(c, x)
		if x.s == 9 then
			F.finish(c)
			return { 'ended', F.summary(x) }
		end
	end
	give(c, x, a[3], a[5])
	F.finish(c)
	return { 'granted', F.encode(x) }
end

-- The claims by id. a: 2 id, 3 holder, 4 lease id, 5 attempt id (resumed: empty), 6 ttl. kind: 1 new, 2 resumed,
-- 3 reclaimed. Reply: { 'claimed', claim }.
local function claim_by_id(c, a, x, kind)
	local lease, holder = a[4], a[3]
	local owner = redis.call('HGET', c.p .. 'L', lease)
	if owner then
		-- Of an owner that cannot be decoded nobody knows whether it holds the lease: no other gets it.
		local o = F.find(c, owner)
		if in_use(o, lease) then
			if o == x and is_repeat(c, x, lease, holder, a[5], kind) then
				return { 'claimed', F.claimed(c, x) }
			end
			return { '!', 'lease_id_in_use' }
		end
	end
	local refused
	if kind == 3 then
		refused = reclaimable(c, x, false)
	else
		refused = eligible(c, x)
		if not refused and kind == 1 and x.a == 4 then
			refused = { '!', 'use_claim_resumed_execution' }
		elseif not refused and kind == 2 and x.a ~= 4 then
			refused = { '!', 'not_a_resumed_execution' }
		end
	end
	if refused then
		return refused
	end
	local g = x.ext.gr
	if not g or g[1] ~= holder then
		return { '!', 'invalid_claim_grant' }
	end
	if g[3] <= c.now then
		return { '!', 'claim_grant_expired', g[3] }
	end
	F.acquire(c, x, lease, a[5], holder, a[6])
	local claim = F.claimed(c, x)
	F.finish(c)
	return { 'claimed', claim }
end

local function claim_execution(c, a, x)
	return claim_by_id(c, a, x, 1)
end

local function claim_resumed_execution(c, a, x)
	return claim_by_id(c, a, x, 2)
end

local function reclaim_execution(c, a, x)
	return claim_by_id(c, a, x, 3)
end

-- The queues of a lane that a worker may serve, by their key's letter.
local function open_queues(c, letter, lane, sets)
	local queues = { { key = c.p .. letter .. lane .. '\n', at = 0, n = 0 } }
	for i = 1, #sets do
		queues[i + 1] = { key = c.p .. letter .. lane .. '\n' .. sets[i], at = 0, n = 0 }
	end
	return queues
end

-- The head of a queue after those that were taken: score, member.
local function head(q, want)
	if q.at >= q.n then
		if q.over then
			return nil
		end
		local from = q.from or 0
		q.buf = redis.call('ZRANGE', q.key, from, from + want - 1, 'WITHSCORES')
		local n = #q.buf / 2
		q.over = n < want
		q.from = from + n
		q.at, q.n = 0, n
		if n == 0 then
			return nil
		end
	end
	local score = q.buf[q.at * 2 + 2]
	return tonumber(score), q.buf[q.at * 2 + 1]
end

-- The queue with the best head.
local function best(queues, want)
	if #queues == 1 then
		local _, member = head(queues[1], want)
		return member and queues[1], member
	end
	local found, bs, bm
	for i = 1, #queues do
		local score, member = head(queues[i], want)
		if member and (not bm or score < bs or (score == bs and F.below(member, bm))) then
			found, bs, bm = queues[i], score, member
		end
	end
	return found, bm
end

local function restart(queues)
	for i = 1, #queues do
		local q = queues[i]
		q.at, q.n, q.from, q.over = 0, 0, 0, false
	end
end

-- The execution of a head, if it may stand there; else the head is dropped or its execution ended, both counted.
-- Returns the execution and what is handed out beside its record, or nil; `t.left` is what is left of the 64.
local function serve(c, q, member, t, raw)
	local x = F.look(c, string.sub(member, 8), raw)
	if x and (x.flow or x.ext.su or x.wps > 0) then
		x = F.sound(c, x.id)
	end
	local ok, with = true, nil
	if x and (x.flow or x.ext.su) then
		ok, with = F.try(F.beside, c, x)
	end
	if not x or not ok or not F.queued(x) then
		-- It, or what is handed out with it, cannot be decoded, or no record implies the entry.
		F.sure('ZREM', q.key, member)
		t.left = t.left - 1
		return nil
	end
	if F.covered(c, x) then
		F.end_with_flow(c, x)
	elseif x.deadline <= c.now then
		F.expire_deadline(c, x)
	else
		return x, with
	end
	t.left = t.left - 1
	F.finish(c)
	return nil
end

-- Claims of plain executions, gathered to be written together.
local function gather()
	return { n = 0, timers = {}, leases = {}, records = {}, queues = {}, seen = {} }
end

-- What the claims of one call have in common.
local function common(c, holder, ttl)
	local pack, expires = struct.pack, F.after(c.now, ttl)
	return {
		now7 = pack('>I7', c.now), expires = expires, expires7 = pack('>I7', expires), holder = holder,
		length = pack('>I2', #holder),
	}
end

-- Writes what was gathered, as `F.flush` does: first what only adds.
local function settle(c, lane, plain)
	local sure, p, n = F.sure, c.p, plain.n
	if n == 0 then
		return
	end
	sure('ZADD', p .. 't', unpack(plain.timers))
	sure('HSET', p .. 'L', unpack(plain.leases))
	sure('MSET', unpack(plain.records))
	for key, members in pairs(plain.queues) do
		sure('ZREM', key, unpack(members))
	end
	if sure('HINCRBY', p .. 'n' .. lane, 21, n) == n then
		sure('SADD', p .. 'N', lane)
	end
end

-- Gathers the claim of the head of a queue if its execution is plain. Returns the claim and its next timer, or nil and
-- the stored record, if it was read.
local function take(c, key, member, plain, all, lease, attempt)
	local id, p = string.sub(member, 8), c.p
	if plain.seen[id] or c.xs[id] then
		return nil
	end
	local name = p .. 'e' .. id
	local got = redis.call('MGET', name, p .. 'p' .. id)
	if not got[1] then
		return nil
	end
	local record, due = F.claim_plain(
		got[1], c.now, all.now7, all.expires7, all.holder, all.length, lease, attempt
	)
	if not record then
		return nil, got[1]
	end
	local n, timers = plain.n * 2, plain.timers
	local leases, records = plain.leases, plain.records
	plain.n = plain.n + 1
	plain.seen[id] = true
	leases[n + 1], leases[n + 2] = lease, id
	records[n + 1], records[n + 2] = name, record
	local m = #timers
	timers[m + 1], timers[m + 2] = all.expires, '\1\0' .. id
	local soonest = all.expires
	if due ~= NONE then
		timers[m + 3], timers[m + 4] = due, '\2\0' .. id
		if due < soonest then
			soonest = due
		end
	end
	local gone = plain.queues[key]
	if gone then
		gone[#gone + 1] = member
	else
		plain.queues[key] = { member }
	end
	return { id, 1, record, got[2], false, false }, soonest
end

-- Claims heads of the queue of the empty set while they are plain. Returns their number, the bytes of their payloads,
-- the soonest of their timers, and whether nothing is left to be claimed by this call; else what was gathered waits to
-- be written with the rest.
local function claim_heads(c, lane, claims, slots, all, leases, attempts)
	local key = c.p .. 'r' .. lane .. '\n'
	local members = redis.call('ZRANGE', key, 0, slots - 1)
	local plain, count, bytes, soonest = gather(), 0, 0, NONE
	local over = #members < slots
	for i = 1, #members do
		local claim, due = take(c, key, members[i], plain, all, leases[i], attempts[i])
		if not claim then
			over = false
			break
		end
		claims[i] = claim
		count = i
		if due < soonest then
			soonest = due
		end
		bytes = bytes + (claim[4] and #claim[4] or 0)
		if bytes >= MAX_PAYLOAD then
			over = true
			break
		end
	end
	if over or count == slots then
		settle(c, lane, plain)
		return count, bytes, soonest
	end
	return count, bytes, soonest, plain
end

-- ff_claim_next. args[1]: the manual clock or NONE (7 bytes), ttl (7), number of slots (1), lengths of lane and holder
-- (2 each), lane, holder, lease ids, attempt ids, capabilities (joined by commas).
-- Reply: { 'next', claims, candidates { id, record, ... }, ready_remaining, next_due_at or false }.
local function claim_next(keys, args)
	local call, sub, packed = redis.call, string.sub, args[1]
	local now, ttl, slots, m, n = struct.unpack('>I7I7BI2I2', packed)
	now = F.clock(now)
	local p, lane, holder = keys[1], sub(packed, 20, 19 + m), sub(packed, 20 + m, 19 + m + n)
	local at = 20 + m + n
	local first, free, registered
	if slots == 1 then
		-- The commonest call: without tables, as long as nothing is in its way.
		local lease = sub(packed, at, at + 15)
		free = not call('HGET', p .. 'L', lease)
		first = free and call('ZRANGE', p .. 't', 0, 0, 'WITHSCORES')
		local due = first and (first[2] and tonumber(first[2]) or NONE)
		if free and due > now then
			registered = call('HKEYS', p .. 'l' .. lane)
		end
		if registered and #registered == 0 and call('EXISTS', p .. 'g' .. lane .. '\n') == 0 then
			local answer = F.claim_one(p, now, ttl, lane, holder, lease, sub(packed, at + 16, at + 31), due)
			if answer then
				return answer
			end
		end
	end
	local c = F.begin(p, now)
	local leases, attempts = {}, {}
	for i = 1, slots do
		leases[i] = sub(packed, at, at + 15)
		attempts[i] = sub(packed, at + slots * 16, at + slots * 16 + 15)
		at = at + 16
	end
	local repeats
	if not free then
		local owners = call('HMGET', p .. 'L', unpack(leases))
		for i = 1, slots do
			if owners[i] then
				local x = F.find(c, owners[i])
				if in_use(x, leases[i]) then
					if not is_repeat(c, x, leases[i], holder, attempts[i], nil) then
						return { '!', 'lease_id_in_use' }
					end
					repeats = repeats or {}
					repeats[#repeats + 1] = F.claimed(c, x)
				end
			end
		end
		first = call('ZRANGE', p .. 't', 0, 0, 'WITHSCORES')
	end
	local sweep_due = first[2] and tonumber(first[2]) <= now
	if sweep_due and not repeats then
		F.sweep(c, 64)
	end
	local claims, candidates, count, bytes, plain = {}, {}, 0, 0, nil
	local soonest = first[2] and tonumber(first[2]) or NONE
	local all = not repeats and common(c, holder, ttl)
	registered = registered or call('HKEYS', p .. 'l' .. lane)
	if all and slots > 1 and not sweep_due and #registered == 0 and call('EXISTS', p .. 'g' .. lane .. '\n') == 0 then
		-- No set is registered and nobody waits for admission: one queue.
		local due
		count, bytes, due, plain = claim_heads(c, lane, claims, slots, all, leases, attempts)
		soonest = math.min(soonest, due)
		if not plain then
			return { 'next', claims, candidates, call('ZCARD', p .. 'r' .. lane .. '\n'), F.opt(soonest) }
		end
	end
	-- The sets that this worker covers.
	local sets, has = {}, nil
	for i = 1, #registered do
		has = has or token_set(sub(packed, at + slots * 16))
		if not missing(registered[i], has) then
			sets[#sets + 1] = registered[i]
		end
	end
	local queues = open_queues(c, 'r', lane, sets)
	local t = { left = MAX_ENDED }
	local quick = not sweep_due
	if repeats then
		claims = repeats
	else
		-- Heads that were taken already stay in their queue until all is written.
		queues[1].from = count
		plain = plain or gather()
		local inputs = 0
		while count < slots and t.left > 0 and bytes < MAX_PAYLOAD and inputs < MAX_INPUTS do
			local q, member = best(queues, math.min(slots - count, 64))
			if not q then
				break
			end
			local claim, due = take(c, q.key, member, plain, all, leases[count + 1], attempts[count + 1])
			if not claim and plain.seen[sub(member, 8)] then
				-- An entry in a second queue: its record must say what was done.
				F.flush(c)
				settle(c, lane, plain)
				plain = gather()
			end
			local x, with
			if not claim then
				x, with = serve(c, q, member, t, due)
			end
			if claim then
				q.at = q.at + 1
				count = count + 1
				claims[count] = claim
				bytes = bytes + (claim[4] and #claim[4] or 0)
				soonest = math.min(soonest, due)
			elseif x then
				q.at = q.at + 1
				count = count + 1
				F.acquire(c, x, leases[count], attempts[count], holder, ttl)
				claim = F.claimed(c, x, with)
				claims[count] = claim
				bytes = bytes + (claim[4] and #claim[4] or 0)
				inputs = inputs + (claim[5] and #claim[5] or 0)
				soonest = math.min(soonest, x.lexp, x.adue)
			else
				F.flush(c)
				settle(c, lane, plain)
				plain = gather()
				restart(queues)
				quick = false
			end
		end
		-- Candidates for admission.
		local waiting = open_queues(c, 'g', lane, sets)
		local seen = {}
		while #candidates < MAX_CANDIDATES * 2 do
			local q, member = best(waiting, MAX_CANDIDATES)
			if not q then
				break
			end
			if seen[member] then
				q.at = q.at + 1
			else
				if plain.seen[sub(member, 8)] then
					F.flush(c)
					settle(c, lane, plain)
					plain = gather()
				end
				local x
				if t.left == 0 then
					x = F.look(c, string.sub(member, 8))
					if not x or not F.queued(x) or F.covered(c, x) or x.deadline <= c.now then
						break
					end
				else
					x = serve(c, q, member, t)
				end
				if x then
					seen[member] = true
					q.at = q.at + 1
					candidates[#candidates + 1] = x.id
					candidates[#candidates + 1] = F.encode(x)
				else
					F.flush(c)
					settle(c, lane, plain)
					plain = gather()
					restart(waiting)
					quick = false
				end
			end
		end
		F.finish(c)
		settle(c, lane, plain)
	end
	local remaining = 0
	for i = 1, #queues do
		remaining = remaining + call('ZCARD', queues[i].key)
	end
	if not quick then
		first = call('ZRANGE', c.p .. 't', 0, 0, 'WITHSCORES')
		soonest = first[2] and tonumber(first[2]) or NONE
	end
	if soonest < 0 then
		-- The backlog is not empty.
		soonest = c.now
	end
	return { 'next', claims, candidates, remaining, F.opt(soonest) }
end

redis.register_function('ff_issue_claim_grant', F.on_execution(issue_claim_grant))
redis.register_function('ff_claim_execution', F.on_execution(claim_execution))
redis.register_function('ff_claim_resumed_execution', F.on_execution(claim_resumed_execution))
redis.register_function('ff_claim_next', F.settled(claim_next))
redis.register_function('ff_issue_reclaim_grant', F.on_execution(issue_reclaim_grant))
redis.register_function('ff_reclaim_execution', F.on_execution(reclaim_execution))
