-- What an ending means for others: the work of one call and the partition's backlog (flow.md, sections 3.2 to 3.4).
--
-- The backlog is the sorted set `b` (score: place, member: kind byte and uuid) and the hash `B` (member -> packed
-- { cursor or false, reopen, flow or false }, 'n' -> the last place). While it is not empty, the timers hold the member
-- '\0' with the score -1, so that one look at the first timer tells of both.
--
-- Entries that a call adds are written before its records, cursors and removals after them: an entry that is left over
-- finds nothing to do.

local F = F

-- Kinds of backlog entries, the first byte of their member.
local EDGES, CANCEL, SEAL, PURGE_FLOW, PURGE_EXECUTION = 1, 2, 3, 4, 5
local SKIPPED = 5

-- How many steps one call makes, how many endings, and how many steps in a row on one entry.
local STEPS, ENDINGS = 128, 64
local IN_A_ROW = 64
-- How many records one step of a purge removes.
local PURGE_STEP = 100
-- How many candidates are read at once.
local PAGE = 64

-- The steps that are left to this call.
function F.steps_left(c)
	return c.steps or STEPS
end

local function endings_left(c)
	return c.endings or ENDINGS
end

local function use_step(c)
	c.steps = F.steps_left(c) - 1
	c.used = (c.used or 0) + 1
end

-- Counts a step that an operation makes itself.
F.use_step = use_step

-- What an operation reports: steps, promoted, skipped, deferred.
function F.cascade(c)
	return { c.used or 0, c.promoted or 0, c.skipped or 0, c.deferred or 0 }
end

-- The backlog entry of a key as this call sees it: { alive, c, r, flow }.
local function entry(c, member)
	local all = c.B
	if not all then
		all = {}
		c.B = all
	end
	local e = all[member]
	if not e then
		local packed = redis.call('HGET', c.p .. 'B', member)
		if packed then
			local ok, o = pcall(cmsgpack.unpack, packed)
			-- One that cannot be read is begun anew.
			o = ok and type(o) == 'table' and o or { false, false, false }
			e = { alive = true, stored = true, c = o[1], r = o[2], flow = o[3] }
		else
			e = { alive = false }
		end
		all[member] = e
	end
	return e
end

local function owe(c, flow, n)
	local fl = flow and F.look_flow(c, flow)
	if fl then
		F.set_flow(c, fl, 'deferred', math.max(0, fl.deferred + n))
	end
end

local function to_tail(c, member)
	c.tail = c.tail or {}
	c.tail[#c.tail + 1] = member
end

local function add(c, e, member, cursor, reopen, flow)
	e.alive, e.c, e.r, e.flow, e.dirty, e.removed = true, cursor, reopen, flow or false, true, nil
	to_tail(c, member)
	owe(c, flow, 1)
end

-- Puts an entry without cursor at the backlog's tail; one that stands there keeps its place and loses its cursor.
-- Says whether it is new.
function F.backlog_restart(c, kind, id, reopen, flow)
	local member = string.char(kind) .. id
	local e = entry(c, member)
	if e.alive then
		e.c, e.r, e.dirty, e.item = false, e.r or reopen or false, true, nil
		return false
	end
	add(c, e, member, false, reopen or false, flow)
	return true
end

-- Puts back what a budget stopped: an entry that stands there keeps its place and takes the cursor.
local function resume(c, item)
	local e = entry(c, item.key)
	if e.alive then
		e.c, e.r, e.dirty, e.item = item.c, e.r or item.r, true, nil
		return
	end
	add(c, e, item.key, item.c, item.r, item.flow)
end

-- Removes an entry.
local function remove(c, member)
	local e = entry(c, member)
	if e.alive then
		e.alive, e.removed = false, true
		owe(c, e.flow, -1)
	end
end

-- The entry of a flow's walk: nil, or the cursor (false at its beginning).
function F.backlog_cursor(c, kind, id)
	local e = entry(c, string.char(kind) .. id)
	if e.alive then
		return e.c
	end
	return nil
end

-- Whether an entry stands on the backlog.
function F.owed(c, kind, id)
	return entry(c, string.char(kind) .. id).alive
end

local function packed(e)
	return cmsgpack.pack({ e.c, e.r, e.flow or false })
end

-- Before the records: what was added, and what went to the tail.
function F.flush_added(call, c)
	local tail, h = c.tail, c.p .. 'B'
	-- Where the tail begins is read once, also if this is run again.
	c.place = c.place or tonumber(call('HGET', h, 'n') or 0)
	local place = c.place
	for i = 1, #tail do
		local e = c.B[tail[i]]
		if e.alive then
			place = place + 1
			call('ZADD', c.p .. 't', -1, '\0')
			call('HSET', h, 'n', place, tail[i], packed(e))
			call('ZADD', c.p .. 'b', place, tail[i])
		end
	end
end

-- After the records: cursors and removals.
function F.flush_backlog(call, c)
	local h = c.p .. 'B'
	local added, gone = {}, false
	for i = 1, c.tail and #c.tail or 0 do
		added[c.tail[i]] = true
	end
	for member, e in pairs(c.B) do
		if e.removed then
			if e.stored then
				call('ZREM', c.p .. 'b', member)
				call('HDEL', h, member)
				gone = true
			end
		elseif e.alive and e.dirty and not added[member] then
			call('HSET', h, member, packed(e))
		end
	end
	if gone and call('EXISTS', c.p .. 'b') == 0 then
		call('ZREM', c.p .. 't', '\0')
	end
end

-- What the tables say once that is written.
function F.flushed_backlog(c)
	for _, e in pairs(c.B) do
		if e.alive then
			e.stored = true
		else
			e.stored = nil
		end
		e.removed, e.dirty = nil, nil
	end
	c.place = nil
end

-- Puts an item without cursor at the tail of the call's work; one that is there keeps its place and loses its cursor.
function F.work(c, kind, id, flow, reopen, cursor)
	local key = string.char(kind) .. id
	local w = c.W
	if not w then
		w = {}
		c.W, c.Wk, c.Wh = w, {}, 1
	end
	local item = c.Wk[key]
	if item then
		item.c, item.buf = false, nil
		item.r = item.r or reopen or false
		return
	end
	item = { kind = kind, id = id, key = key, flow = flow, r = reopen or false, c = cursor or false }
	w[#w + 1] = item
	c.Wk[key] = item
end

-- The next candidate of an item after its cursor: of `edges` an edge's entry and its seq, else a member. A page is read
-- ahead; what was read is passed over when this call has ended it meanwhile.
local function following(c, item)
	local buf = item.buf
	if not buf or (item.at > #buf and not item.over) then
		local call, kind = redis.call, item.kind
		if kind == EDGES then
			buf = call(
				'ZRANGEBYSCORE', c.p .. '>' .. item.id, item.c and string.format('(%d', item.c) or '-inf', '+inf',
				'WITHSCORES', 'LIMIT', 0, PAGE
			)
			item.over = #buf < PAGE * 2
		else
			local key = c.p .. (kind == PURGE_FLOW and 'M' or 'O') .. item.id
			buf = call('ZRANGEBYLEX', key, item.c and '(' .. item.c or '-', '+', 'LIMIT', 0, PAGE)
			item.over = #buf < PAGE
		end
		item.buf, item.at = buf, 1
	end
	if item.kind == EDGES then
		return buf[item.at], buf[item.at + 1] and tonumber(buf[item.at + 1])
	end
	while true do
		local member = buf[item.at]
		if not member then
			if item.over then
				return nil
			end
			item.c = buf[#buf]
			item.buf = nil
			return following(c, item)
		end
		local x = c.xs[member]
		if item.kind == PURGE_FLOW or not x or x.s ~= 9 then
			return member
		end
		item.at = item.at + 1
	end
end

-- Moves the cursor behind the candidate.
local function pass(item, candidate, seq)
	item.c = seq or candidate
	item.at = item.at + (seq and 2 or 1)
end

-- The verdict on an edge of this kind (1 success only, 2 any terminal) by its upstream: state (2 pending, 3 satisfied,
-- 4 impossible), and of a decided one run, outcome and attempt.
function F.verdict(u, kind)
	if u.s ~= 9 then
		return 2
	end
	local state = (u.b == 1 or kind == 2) and 3 or 4
	return state, u.replays, u.b, u.attempts > 0 and u.arun == u.replays and u.attempts - 1
end

-- Whether its resolved edges do not move again until it is replayed itself.
local function settled(x)
	if x.s <= 4 then
		return x.a ~= 1 and x.a ~= 3
	end
	return not (x.s == 9 and x.b == SKIPPED)
end

-- What examining an edge would do to it: nothing, or { edge, downstream, upstream, verdict... }.
function F.plan_edge(c, e)
	if not e or e.st == 1 then
		return nil
	end
	local u = F.look(c, e.up)
	local d = u and F.sound(c, e.down)
	if not d then
		return nil
	end
	local state, run, outcome, attempt = F.verdict(u, e.kind)
	if e.run == (run or false) or (e.run and settled(d)) then
		return nil
	end
	return { e = e, d = d, u = u, st = state, run = run, out = outcome, att = attempt }
end

-- Moves the counts of a member from one state of an edge to another; a staged one counts as incoming from now on.
function F.recount(c, d, from, to)
	if from == 1 then
		d.inc = d.inc + 1
	elseif from == 2 then
		d.unres = d.unres - 1
	elseif from == 3 then
		d.sat = d.sat - 1
	else
		d.imp = d.imp - 1
	end
	if to == 2 then
		d.unres = d.unres + 1
	elseif to == 3 then
		d.sat = d.sat + 1
	elseif to == 4 then
		d.imp = d.imp + 1
	end
	F.put(c, d)
end

-- Lets an edge take a verdict.
function F.decide(c, e, state, run, outcome, attempt)
	e.st = state
	e.run, e.out, e.att = run or false, outcome or false, attempt or false
	e.resolved = run and c.now or false
	F.put_edge(c, e)
end

-- Whether the gate of a runnable member behind so many impossible edges ends it.
local function would_skip(c, x, impossible)
	if x.s > 4 or x.started ~= 9007199254740992 or impossible == 0 then
		return false
	end
	local fl = F.flow(c, x.flow)
	return not (x.held == 1 and fl and not fl.sealed)
end

local function plan_ends(c, plan)
	local d, n = plan.d, plan.d.imp
	if plan.e.st == 4 then
		n = n - 1
	end
	if plan.st == 4 then
		n = n + 1
	end
	return would_skip(c, d, n)
end

-- Runs the gate of a runnable member, and counts what it did.
function F.gate_member(c, x)
	if x.s > 4 then
		return
	end
	local was = F.public(x)
	F.gate(c, x)
	local now = F.public(x)
	if now == was then
		return
	end
	if now == 11 then
		c.skipped = (c.skipped or 0) + 1
		c.endings = endings_left(c) - 1
	elseif was == 4 and now < 7 then
		c.promoted = (c.promoted or 0) + 1
	end
end

-- Steps 5 to 7 of examining an edge.
local function carry_out(c, plan, reopen)
	local e, d, was = plan.e, plan.d, plan.e.st
	F.decide(c, e, plan.st, plan.run, plan.out, plan.att)
	F.recount(c, d, was, plan.st)
	if d.s <= 4 then
		F.gate_member(c, d)
		return
	end
	if reopen and d.s == 9 and d.b == SKIPPED and was == 4 and plan.st ~= 4 and d.imp == 0 then
		local f = F.frozen(d)
		local fl = F.flow(c, e.flow)
		local rp = plan.u.ext.rp
		if d.replays < f[1] and fl and not fl.policy and rp then
			F.begin_member_run(
				c, d, rp[1], rp[2], F.replay_digest(c, d, rp[1], rp[2]), F.replay_deadline(c, f), true
			)
		end
	end
end

-- Examines one edge on behalf of an operation: one step.
function F.examine_edge(c, e)
	use_step(c)
	local plan = F.plan_edge(c, e)
	if plan then
		carry_out(c, plan, false)
	end
end

-- What a tombstone says to be left; nil if there is none: no record, or that of an execution.
local function tombstone(c, id)
	local s = redis.call('GET', c.p .. 'e' .. id)
	if s and string.byte(s) == 0 then
		return #s == 5 and struct.unpack('>I4', s, 2) or 0
	end
	return nil
end

-- One step of the purge of a stand-alone execution: its tombstone counts what is left; the keys go with the last step.
-- Says whether it was the last. The tombstone goes behind the backlog's entry, so that its id is not free before; an
-- entry that outlived its tombstone removes nothing: the id may have been taken anew.
local function purge_execution(c, id)
	local left = tombstone(c, id)
	if left then
		left = left - PURGE_STEP
		if left > 0 then
			F.sure('SET', c.p .. 'e' .. id, '\0' .. struct.pack('>I4', left))
			return false
		end
		F.unlink_records(c, id)
		F.late(c, 'DEL', c.p .. 'e' .. id)
	end
	F.late(c, 'ZREM', c.p .. 'z', id)
	return true
end

-- One step of the purge of a flow, on a member. Says whether it was the member's last.
local function purge_member(c, flow, id)
	local call, p = redis.call, c.p
	local key = p .. 'e' .. id
	local x, why = F.look(c, id)
	if x and x.flow ~= flow then
		-- Its id was free, and has been taken anew: only the list of members has not heard of it.
		F.sure('ZREM', p .. 'M' .. flow, id)
		return true
	end
	-- Whether it can be decoded or not: a purge takes what is there.
	if x and pcall(F.read_core, x) then
		F.bury(c, x)
		F.flush(c)
	elseif x or why == 'corrupt' then
		F.sure('SET', key, '\0' .. struct.pack('>I4', 0))
		F.sure('ZREM', p .. 'x', id)
		F.sure('UNLINK', p .. 'p' .. id)
	end
	local left = tombstone(c, id) or 0
	local room = PURGE_STEP - math.min(left, PURGE_STEP)
	left = math.max(0, left - PURGE_STEP)
	if room > 0 then
		local entries = call('ZRANGE', p .. '<' .. id, 0, room - 1)
		for i = 1, #entries do
			local edge, up = string.sub(entries[i], 1, 16), string.sub(entries[i], 17)
			F.sure('ZREM', p .. '>' .. up, edge .. id)
			F.sure('HDEL', p .. 'E' .. flow, edge)
			F.sure('ZREM', p .. '<' .. id, entries[i])
		end
	end
	if left > 0 or call('EXISTS', p .. '<' .. id) == 1 then
		F.sure('SET', key, '\0' .. struct.pack('>I4', left))
		return false
	end
	F.unlink_records(c, id)
	F.sure('DEL', key)
	F.sure('ZREM', p .. 'O' .. flow, id)
	F.sure('ZREM', p .. 'M' .. flow, id)
	return true
end

-- Whether examining the candidate would make an ending.
local function would_end(c, item, candidate)
	if item.kind == EDGES then
		local plan = F.plan_edge(c, F.edge(c, item.flow, string.sub(candidate, 1, 16)))
		return plan and plan_ends(c, plan)
	end
	if item.kind == PURGE_FLOW then
		return false
	end
	local x = F.sound(c, candidate)
	if not x then
		return false
	end
	if item.kind == CANCEL then
		return F.covered(c, x)
	end
	return would_skip(c, x, x.imp)
end

local function examine(c, item, candidate)
	if item.kind == EDGES then
		local plan = F.plan_edge(c, F.edge(c, item.flow, string.sub(candidate, 1, 16)))
		if plan then
			carry_out(c, plan, item.r)
		end
		return
	end
	local x = F.sound(c, candidate)
	if not x then
		return
	end
	if item.kind == SEAL then
		F.gate_member(c, x)
	elseif F.covered(c, x) then
		F.end_with_flow(c, x)
		c.cancelled = (c.cancelled or 0) + 1
		c.endings = endings_left(c) - 1
	end
end

-- Runs the call's work until it is done or a budget is used up; what is left goes to the backlog.
local function run(c)
	local w = c.W
	while true do
		local item = w[c.Wh]
		if not item or F.steps_left(c) == 0 then
			break
		end
		local candidate, seq = following(c, item)
		if candidate then
			if endings_left(c) == 0 and would_end(c, item, candidate) then
				break
			end
			use_step(c)
			pass(item, candidate, seq)
			examine(c, item, candidate)
			candidate = following(c, item)
		end
		if not candidate then
			c.Wh = c.Wh + 1
			c.Wk[item.key] = nil
			remove(c, item.key)
		end
	end
	for i = c.Wh, #w do
		c.deferred = (c.deferred or 0) + 1
		resume(c, w[i])
	end
	c.W = nil
end

local PARTS = { [EDGES] = true, [SEAL] = true }

-- Whether an item has nothing to do any more.
local function is_void(c, item)
	if PARTS[item.kind] then
		local fl = item.flow and F.flow(c, item.flow)
		if not fl or fl.frozen then
			return true
		end
	end
	return item.kind ~= PURGE_EXECUTION and not following(c, item)
end

-- Drains the backlog with at most `limit` steps. Returns steps, stale entries and of those that were dropped because a
-- record cannot be decoded the executions ('\0' and uuid) and flows ('\1' and uuid).
function F.drain(c, limit)
	local steps, stale, unread = 0, 0, {}
	local queue = redis.call('ZRANGE', c.p .. 'b', 0, STEPS)
	local whole = #queue <= STEPS
	local head, row, last = 1, 0, nil
	local function arisen(member)
		if whole then
			queue[#queue + 1] = member
		end
	end
	while limit > 0 and F.steps_left(c) > 0 do
		local member = queue[head]
		if not member then
			break
		end
		local e = entry(c, member)
		local item = e.item
		if not item then
			local kind = string.byte(member)
			local id = string.sub(member, 2)
			item = { kind = kind, id = id, key = member, flow = e.flow or (kind ~= EDGES and id), r = e.r, c = e.c }
			e.item = item
		end
		local corrupt
		if item.kind == EDGES then
			local _, why = F.look(c, item.id)
			corrupt = why == 'corrupt' and '\0' .. item.id
		end
		if not corrupt and item.kind <= SEAL and item.flow then
			local _, why = F.look_flow(c, item.flow)
			corrupt = why and '\1' .. item.flow
		end
		if not e.alive then
			head = head + 1
		elseif corrupt or is_void(c, item) then
			remove(c, member)
			if item.kind == PURGE_FLOW then
				F.flow_purged(c, item.id)
			end
			head = head + 1
			use_step(c)
			limit = limit - 1
			if corrupt then
				unread[#unread + 1] = corrupt
			else
				stale = stale + 1
			end
		else
			local candidate, seq
			if item.kind ~= PURGE_EXECUTION then
				candidate, seq = following(c, item)
				if endings_left(c) == 0 and would_end(c, item, candidate) then
					break
				end
			end
			if member ~= last then
				row, last = 0, member
			end
			use_step(c)
			limit = limit - 1
			steps = steps + 1
			row = row + 1
			local over
			if item.kind == PURGE_EXECUTION then
				over = purge_execution(c, item.id)
			elseif item.kind == PURGE_FLOW then
				if purge_member(c, item.id, candidate) then
					item.at = item.at + 1
					item.c = candidate
					over = not following(c, item)
					item.c = false
					if over then
						F.flow_purged(c, item.id)
					end
				end
			else
				pass(item, candidate, seq)
				e.c, e.dirty = item.c, true
				examine(c, item, candidate)
				local w = c.W
				if w then
					c.W = nil
					for i = 1, #w do
						if F.backlog_restart(c, w[i].kind, w[i].id, w[i].r, w[i].flow) then
							arisen(w[i].key)
						end
					end
				end
				-- An entry that lost its cursor meanwhile is not over.
				over = e.item == item and not following(c, item)
			end
			if over then
				remove(c, member)
				head = head + 1
			elseif row == IN_A_ROW then
				to_tail(c, member)
				head = head + 1
				arisen(member)
				row = 0
			end
		end
	end
	F.flush(c)
	return steps, stale, unread
end

-- Runs what the call's endings mean for others, and writes.
function F.finish(c)
	if c.W then
		run(c)
	end
	F.flush(c)
end
