-- rebuild_indexes: resources.md, section 7. What the records imply, restored beside normal traffic.
--
-- A walk has phases, each with a cursor `<letter>:<position>`: x the executions by id, f the flows, r what is left of
-- purged executions, q the queues' entries, t the timers, l the leases.

local F = F
local NONE = 9007199254740992

local ORDER = { 'x', 'f', 'r', 'q', 't', 'l' }

-- Counts a repair: kind 1 ready_queue, 2 timer, 3 backlog, 4 list, 5 counter; action 1 added, 2 moved, 3 removed.
function F.repaired(r, kind, action)
	local i = kind * 4 + action
	r.repairs[i] = (r.repairs[i] or 0) + 1
end

local KINDS = { 1, 2, 3, 4, 5, 7, 9 }

-- The timers that an execution's records imply: member -> due.
local function implied_timers(c, x)
	local out = {}
	local function arm(kind, due, rest)
		if due and due ~= NONE then
			out[string.char(kind, 0) .. x.id .. (rest or '')] = due
		end
	end
	local due = { F.dues(x) }
	for i = 1, #KINDS do
		arm(KINDS[i], due[i])
	end
	for reason, at in pairs(F.block_dues(x) or {}) do
		arm(8, at, string.char(reason))
	end
	-- Of waitpoints that cannot be decoded nothing is known: their timers stay as they are.
	local known = F.try(F.waitpoint_timers, c, x, function(waitpoint, at)
		arm(6, at, waitpoint)
	end)
	return out, known
end

-- Arms a timer that should stand at `due`, if it does not.
function F.rebuild_timer(c, r, member, due)
	local stands = redis.call('ZSCORE', c.p .. 't', member)
	if not stands or tonumber(stands) ~= due then
		F.sure('ZADD', c.p .. 't', due, member)
		F.repaired(r, 2, stands and 2 or 1)
	end
end

-- Puts an entry on the backlog that should be there.
function F.rebuild_owed(c, r, kind, id, flow)
	if redis.call('HEXISTS', c.p .. 'B', string.char(kind) .. id) == 0 then
		F.backlog_restart(c, kind, id, false, flow)
		F.flush(c)
		F.repaired(r, 3, 1)
	end
end

local function examine(c, r, x)
	local call, p = redis.call, c.p
	local lane = F.lane(x)
	local state = F.public(x)
	local counts = r.lanes[lane] or {}
	counts[state] = (counts[state] or 0) + 1
	r.lanes[lane] = counts
	-- The ready queue.
	local key, member = F.place(c, x)
	local score = call('ZSCORE', key, member)
	if F.queued(x) then
		if not score or tonumber(score) ~= -x.prio then
			F.sure('ZADD', key, -x.prio, member)
			F.repaired(r, 1, score and 2 or 1)
		end
	elseif score then
		F.sure('ZREM', key, member)
		F.repaired(r, 1, 3)
	end
	if F.sure('ZREM', p .. (x.adm == 1 and 'r' or 'g') .. x.route, member) == 1 then
		F.repaired(r, 1, 3)
	end
	-- The timers.
	for name, due in pairs(implied_timers(c, x)) do
		F.rebuild_timer(c, r, name, due)
	end
	-- The lists.
	if x.s == 5 and call('HGET', p .. 'L', x.lid) ~= x.id then
		F.sure('HSET', p .. 'L', x.lid, x.id)
		F.repaired(r, 4, 1)
	end
	-- A key whose window is over is free: another execution may have had it since, and have gone.
	local field = x.keyend > c.now and F.key_field(x)
	if field and F.sure('HSETNX', p .. 'k', field, x.id) == 1 then
		F.repaired(r, 4, 1)
	end
	local _, set = F.split(x.route)
	-- The number only says how long a set stays; while something waits for it, it stays anyhow (flush.lua).
	if set ~= '' and x.s ~= 9 and F.sure('HSETNX', p .. 'l' .. lane, set, 1) == 1 then
		F.repaired(r, 4, 1)
	end
	if x.flow then
		F.rebuild_member(c, r, x)
	end
end

local function executions(c, r, from, left)
	local start = from == '' and '-' or '(' .. F.uuid_raw(from)
	local ids = redis.call('ZRANGEBYLEX', c.p .. 'x', start, '+', 'LIMIT', 0, left + 1)
	local n = math.min(#ids, left)
	for i = 1, n do
		local x, why = F.look(c, ids[i])
		if x then
			if not F.try(F.read_suspension, c, x) then
				r.corrupt[#r.corrupt + 1] = '\0' .. ids[i]
			end
			examine(c, r, x)
		elseif why == 'corrupt' then
			r.corrupt[#r.corrupt + 1] = '\0' .. ids[i]
		else
			F.sure('ZREM', c.p .. 'x', ids[i])
			F.repaired(r, 4, 3)
		end
	end
	return n, #ids > n and F.hex(ids[n])
end

local function flows(c, r, from, left)
	local start = from == '' and '-' or '(' .. F.uuid_raw(from)
	local ids = redis.call('ZRANGEBYLEX', c.p .. 'F', start, '+', 'LIMIT', 0, left + 1)
	local n = math.min(#ids, left)
	for i = 1, n do
		if not F.rebuild_flow(c, r, ids[i]) then
			r.corrupt[#r.corrupt + 1] = '\1' .. ids[i]
		end
	end
	return n, #ids > n and F.hex(ids[n])
end

local function remains(c, r, from, left)
	local start = from == '' and '-' or '(' .. F.uuid_raw(from)
	local ids = redis.call('ZRANGEBYLEX', c.p .. 'z', start, '+', 'LIMIT', 0, left + 1)
	local n = math.min(#ids, left)
	for i = 1, n do
		local _, why = F.look(c, ids[i])
		if why == 'purging' then
			F.rebuild_owed(c, r, 5, ids[i])
		else
			F.sure('ZREM', c.p .. 'z', ids[i])
			F.repaired(r, 4, 3)
		end
	end
	return n, #ids > n and F.hex(ids[n])
end

-- The queues that claims look at: of each lane the empty set and the registered ones, ordinary and controlled.
local function queue_keys(c)
	local call, out = redis.call, {}
	local lanes = call('SMEMBERS', c.p .. 'N')
	table.sort(lanes, F.below)
	for i = 1, #lanes do
		local sets = call('HKEYS', c.p .. 'l' .. lanes[i])
		sets[#sets + 1] = ''
		table.sort(sets, F.below)
		for j = 1, #sets do
			out[#out + 1] = c.p .. 'r' .. lanes[i] .. '\n' .. sets[j]
			out[#out + 1] = c.p .. 'g' .. lanes[i] .. '\n' .. sets[j]
		end
	end
	return out
end

local function queues(c, r, from, left)
	local call = redis.call
	local skip, done = tonumber(from) or 0, 0
	local all = queue_keys(c)
	local behind = 0
	for i = 1, #all do
		local key = all[i]
		local size = call('ZCARD', key)
		if behind + size > skip then
			local at = skip - behind
			local members = call('ZRANGE', key, at, at + left - done - 1)
			for m = 1, #members do
				local x, why = F.look(c, string.sub(members[m], 8))
				done = done + 1
				local here = false
				if x and F.queued(x) then
					local its, member = F.place(c, x)
					here = its == key and member == members[m]
				end
				-- Of a record that cannot be decoded nothing is known: what stands for it is left alone.
				if here or why == 'corrupt' then
					skip = skip + 1
				else
					F.sure('ZREM', key, members[m])
					size = size - 1
					F.repaired(r, 1, 3)
				end
			end
			if done == left and (at + #members < size or i < #all) then
				return done, F.digits(skip)
			end
		end
		behind = behind + size
	end
	return done, false
end

local function timers(c, r, from, left)
	local call = redis.call
	local skip = tonumber(from) or 0
	if call('EXISTS', c.p .. 'b') == 1 then
		-- The sign that there is a backlog; no timer, and so no repair.
		F.sure('ZADD', c.p .. 't', -1, '\0')
	end
	local page = call('ZRANGE', c.p .. 't', skip, skip + left, 'WITHSCORES')
	local n = math.min(#page / 2, left)
	for i = 1, n do
		local member, due = page[i * 2 - 1], tonumber(page[i * 2])
		local right
		if member == '\0' then
			right = call('EXISTS', c.p .. 'b') == 1
		elseif string.byte(member, 2) == 1 then
			right = F.flow_timer_stands(c, string.sub(member, 3), due)
		else
			local x, why = F.look(c, string.sub(member, 3, 18))
			right = why == 'corrupt'
			if x then
				local implied, known = implied_timers(c, x)
				right = implied[member] == due or (not known and string.byte(member) == 6)
			end
		end
		if right then
			skip = skip + 1
		else
			F.sure('ZREM', c.p .. 't', member)
			F.repaired(r, 2, 3)
		end
	end
	return n, #page / 2 > n and F.digits(skip)
end

local function leases(c, r, from, left)
	local call = redis.call
	local all = call('HGETALL', c.p .. 'L')
	local list = {}
	for i = 1, #all, 2 do
		list[#list + 1] = { all[i], all[i + 1] }
	end
	table.sort(list, function(a, b)
		return F.below(a[1], b[1])
	end)
	local after = from ~= '0' and from ~= '' and F.uuid_raw(from) or ''
	local n = 0
	for i = 1, #list do
		local lease, id = list[i][1], list[i][2]
		if F.below(after, lease) then
			if n == left then
				return n, F.hex(list[i - 1][1])
			end
			n = n + 1
			local x, why = F.look(c, id)
			if why ~= 'corrupt' and not (x and x.s == 5 and x.lid == lease) then
				F.sure('HDEL', c.p .. 'L', lease)
				F.repaired(r, 4, 3)
			end
		end
	end
	return n, false
end

local WALKS = { x = executions, f = flows, r = remains, q = queues, t = timers, l = leases }

-- ff_rebuild_indexes. a: 2 cursor or false, 3 limit.
-- Reply: { 'rebuilt', examined, repairs { kind * 4 + action, n, ... }, corrupt ids (of an execution '\0', a flow '\1',
-- an edge '\2', and its uuid), lane counts { lane, state, n, ... }, next cursor or false }.
local function rebuild_indexes(keys, args)
	local c, a = F.open(keys, args)
	local letter, from = 'x', ''
	if a[2] then
		letter, from = string.match(a[2], '^([xfrqtl]):(%x*)$')
		local by_id = letter == 'x' or letter == 'f' or letter == 'r' or letter == 'l'
		if not letter or (by_id and #from ~= 0 and #from ~= 32) or (not by_id and not F.whole(from)) then
			return { '!', 'invalid_input', 'cursor' }
		end
	end
	local r = { repairs = {}, corrupt = {}, lanes = {} }
	local left, phase = a[3], 1
	while ORDER[phase] ~= letter do
		phase = phase + 1
	end
	local examined, following = 0, false
	while ORDER[phase] and left > 0 do
		local n, more = WALKS[ORDER[phase]](c, r, from, left)
		examined = examined + n
		left = left - n
		if more then
			following = ORDER[phase] .. ':' .. more
			break
		end
		phase = phase + 1
		from = ''
	end
	if not following and ORDER[phase] then
		local by_number = ORDER[phase] == 'q' or ORDER[phase] == 't'
		following = ORDER[phase] .. ':' .. (by_number and '0' or '')
	end
	F.flush(c)
	local repairs, lanes = {}, {}
	for i, n in pairs(r.repairs) do
		repairs[#repairs + 1] = i
		repairs[#repairs + 1] = n
	end
	for lane, counts in pairs(r.lanes) do
		for state, n in pairs(counts) do
			local i = #lanes
			lanes[i + 1], lanes[i + 2], lanes[i + 3] = lane, state, n
		end
	end
	return { 'rebuilt', examined, repairs, r.corrupt, lanes, following }
end

redis.register_function('ff_rebuild_indexes', F.settled(rebuild_indexes))
