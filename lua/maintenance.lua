-- Domain maintenance: resources.md, section 7.

local F = F
local NONE = 9007199254740992

F.KIND = {
	'lease', 'attempt_timeout', 'deadline', 'delay', 'suspension_timeout', 'pending_waitpoint', 'grant', 'block_until',
	'retention',
}

-- How many subordinate records of x a purge removes.
local function records_of(c, x)
	local n = x.attempts + x.replays + F.suspension_records(c, x) + F.stream_records(c, x)
	if x.s == 9 and x.b == 1 then
		n = n + 1
	end
	return n
end

-- Removes everything keyed under an execution but its record.
function F.unlink_records(c, id)
	local p = c.p
	F.sure('UNLINK', p .. 'a' .. id, p .. 'o' .. id)
	F.unlink_suspension(c, id)
	F.unlink_streams(c, id)
end

-- The execution stops existing: its record becomes a tombstone that counts what is left.
function F.bury(c, x)
	local key = F.key_field(x)
	if key and redis.call('HGET', c.p .. 'k', key) == x.id then
		F.late(c, 'HDEL', c.p .. 'k', key)
	end
	local left = records_of(c, x)
	x.gone = true
	F.put(c, x)
	F.write(c, 'SET', c.p .. 'e' .. x.id, '\0' .. struct.pack('>I4', left))
	F.late(c, 'ZREM', c.p .. 'x', x.id)
	F.late(c, 'UNLINK', c.p .. 'p' .. x.id)
end

-- Its subordinate records go in steps.
local function purge(c, x)
	F.bury(c, x)
	F.write(c, 'ZADD', c.p .. 'z', 0, x.id)
	F.backlog_restart(c, 5, x.id, false)
end

-- Fires one due entry. Returns 'done', 'stale' or 'corrupt'.
local function fire(c, kind, member, due)
	if string.byte(member, 2) == 1 then
		return F.fire_flow_retention(c, string.sub(member, 3), due)
	end
	local id = string.sub(member, 3, 18)
	local x, why = F.look(c, id)
	if why == 'corrupt' then
		return 'corrupt'
	end
	if not x then
		return 'stale'
	end
	if kind == 1 then
		if x.s ~= 5 or x.lexp ~= due then
			return 'stale'
		end
		F.lose(c, x)
	elseif kind == 2 then
		if x.adue ~= due then
			return 'stale'
		end
		F.fire_attempt_timeout(c, x)
	elseif kind == 3 then
		if x.s == 9 or x.deadline ~= due then
			return 'stale'
		end
		F.expire_deadline(c, x)
	elseif kind == 4 then
		if x.nb ~= due then
			return 'stale'
		end
		x.nb, x.nbk = NONE, 0
		F.touch(c, x)
		F.gate(c, x)
	elseif kind == 5 then
		if x.stimeout ~= due then
			return 'stale'
		end
		F.fire_suspension_timeout(c, x)
	elseif kind == 6 then
		if not F.fire_waitpoint(c, x, string.sub(member, 19), due) then
			return 'stale'
		end
	elseif kind == 7 then
		if not x.ext.gr or x.ext.gr[3] ~= due then
			return 'stale'
		end
		x.ext.gr = nil
		F.touch(c, x)
	elseif kind == 8 then
		local reason = string.byte(member, 19)
		local bl = x.ext.bl
		if not bl or not bl[reason] or bl[reason][2] ~= due then
			return 'stale'
		end
		F.unblock(c, x, reason)
	elseif kind == 9 then
		if x.purge ~= due then
			return 'stale'
		end
		purge(c, x)
	else
		return 'stale'
	end
	return 'done'
end

-- Fires due timers in order and drains the backlog with what is left of the limit. Returns the counts by kind (10: the
-- backlog, 11: stale) and the list of what could not be read.
function F.sweep(c, limit)
	local call, tkey = redis.call, c.p .. 't'
	local counts, corrupt = {}, {}
	local owed = false
	while limit > 0 do
		local first = call('ZRANGE', tkey, 0, 1, 'WITHSCORES')
		local at = 1
		if first[2] and tonumber(first[2]) < 0 then
			owed = true
			at = 3
		end
		local member = first[at]
		if not member or tonumber(first[at + 1]) > c.now then
			break
		end
		limit = limit - 1
		local kind, due = string.byte(member), tonumber(first[at + 1])
		local what = F.step(c, fire, c, kind, member, due) or 'corrupt'
		if what == 'done' then
			counts[kind] = (counts[kind] or 0) + 1
		elseif what == 'stale' then
			counts[11] = (counts[11] or 0) + 1
		else
			corrupt[#corrupt + 1] = F.KIND[kind]
			corrupt[#corrupt + 1] = string.sub(member, 2, 18)
		end
		F.finish(c)
		-- Done already where the record implied it: what is left is an entry that nobody believes.
		if what ~= 'done' then
			F.sure('ZREM', tkey, member)
		end
		owed = true
	end
	if owed and limit > 0 then
		local steps, stale, unread = F.drain(c, limit)
		if steps > 0 then
			counts[10] = steps
		end
		if stale > 0 then
			counts[11] = (counts[11] or 0) + stale
		end
		for i = 1, unread and #unread or 0 do
			corrupt[#corrupt + 1] = 'backlog'
			corrupt[#corrupt + 1] = unread[i]
		end
	end
	return counts, corrupt
end

-- ff_sweep. a: 2 limit.
-- Reply: { 'swept', counts { index, n, ... }, corrupt { kind, '\0' or '\1' and uuid, ... }, more,
-- next_due_at or false }.
local function sweep(keys, args)
	local c, a = F.open(keys, args)
	local counts, corrupt = F.sweep(c, a[2])
	local flat = {}
	for kind = 1, 11 do
		if counts[kind] then
			flat[#flat + 1] = kind
			flat[#flat + 1] = counts[kind]
		end
	end
	local first = redis.call('ZRANGE', c.p .. 't', 0, 0, 'WITHSCORES')
	local due = first[2] and tonumber(first[2])
	local more = due ~= nil and due <= c.now
	if due and due < 0 then
		due = c.now
	end
	return { 'swept', flat, corrupt, more and 1 or 0, due or false }
end

redis.register_function('ff_sweep', F.settled(sweep))
