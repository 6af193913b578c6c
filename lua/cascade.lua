-- What an ending means for others: the work of one call and the partition's backlog (flow.md, sections 3.2 to 3.4).
--
-- The backlog is the sorted set `b` (score: place, member: kind byte and uuid) and the hash `B` (member -> packed
-- { cursor or false, reopen }, 'n' -> the last place). While it is not empty, the timers hold the member '\0' with the
-- score -1, so that one look at the first timer tells of both.

local F = F

-- Kinds of backlog entries, the first byte of their member.
local PURGE_EXECUTION = 5

-- How many steps one call makes, and how many of them in a row on one entry.
local STEPS = 128
local IN_A_ROW = 64
-- How many records one step of a purge removes.
local PURGE_STEP = 100

-- The steps that are left to this call.
function F.steps_left(c)
	return c.steps or STEPS
end

-- Puts an entry without cursor at the backlog's tail; one that stands there keeps its place and loses its cursor.
function F.backlog_restart(c, kind, id, reopen)
	local b, h = c.p .. 'b', c.p .. 'B'
	local member = string.char(kind) .. id
	local old = redis.call('HGET', h, member)
	if old then
		local o = cmsgpack.unpack(old)
		F.late(c, 'HSET', h, member, cmsgpack.pack({ false, reopen or o[2] }))
		return
	end
	c.place = (c.place or tonumber(redis.call('HGET', h, 'n') or 0)) + 1
	F.late(c, 'ZADD', c.p .. 't', -1, '\0')
	F.late(c, 'HSET', h, 'n', c.place, member, cmsgpack.pack({ false, reopen or false }))
	F.late(c, 'ZADD', b, c.place, member)
end

-- Removes an entry of the backlog, which was written through before.
function F.backlog_remove(c, member)
	local call = redis.call
	call('ZREM', c.p .. 'b', member)
	call('HDEL', c.p .. 'B', member)
	if call('EXISTS', c.p .. 'b') == 0 then
		call('ZREM', c.p .. 't', '\0')
	end
end

-- Moves an entry to the tail.
function F.backlog_yield(c, member)
	local place = redis.call('HINCRBY', c.p .. 'B', 'n', 1)
	redis.call('ZADD', c.p .. 'b', place, member)
end

-- One step of the purge of a stand-alone execution: its tombstone counts what is left; the keys go with the last step.
-- Says whether it was the last.
local function purge_execution(c, id)
	local call, key = redis.call, c.p .. 'e' .. id
	local s = call('GET', key)
	local left = 0
	if s and string.byte(s) == 0 then
		left = struct.unpack('>I4', s, 2)
	end
	left = math.max(0, left - PURGE_STEP)
	if left > 0 then
		call('SET', key, '\0' .. struct.pack('>I4', left))
		return false
	end
	F.unlink_records(c, id)
	call('DEL', key)
	call('ZREM', c.p .. 'z', id)
	return true
end

-- Drains the backlog with at most `limit` steps. Returns steps and stale entries.
function F.drain(c, limit)
	local call = redis.call
	local steps, stale = 0, 0
	local row, last = 0, nil
	while limit - steps > 0 and F.steps_left(c) > 0 do
		local member = call('ZRANGE', c.p .. 'b', 0, 0)[1]
		if not member then
			break
		end
		if member ~= last then
			row, last = 0, member
		end
		local kind, id = string.byte(member), string.sub(member, 2)
		c.steps = F.steps_left(c) - 1
		steps = steps + 1
		row = row + 1
		if kind == PURGE_EXECUTION and purge_execution(c, id) then
			F.backlog_remove(c, member)
		elseif row == IN_A_ROW then
			F.backlog_yield(c, member)
			row = 0
		end
	end
	return steps, stale
end

-- Runs what the call's endings mean for others, and writes.
function F.finish(c)
	F.flush(c)
end
