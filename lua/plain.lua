-- The life of a plain execution: no flow, no rare fields, nothing that waits. Its creation, its first claim and its
-- completion by a worker decide from a few numbers of the header, and do what `F.new_execution`, `F.acquire` and
-- `F.terminate` would do by copying the rest of the record as bytes: a table of eighty fields costs more than all their
-- commands. Everything else, refusals included, goes the general way.

local F = F
local NONE = 9007199254740992

-- Places in the header (record.lua, HEADER): 5..22 say that an execution is plain, 23..66 is only read here, 67..145
-- a claim writes and a completion leaves, 146..223 both write.
local BYTES = 316
local PLAIN = '\0\0\0\0\0\0\0\0\0\0\0\32\0\0\0\0\0\0'
local FRESH = '\0\0\0\0\0\0'
local CLAIM = '>I2I4I2I4I7I7'
local COMPLETE = '>I2I4I2I4I7I7I4I7I7I2'
-- NONE as 7 bytes.
local NO = '\32\0\0\0\0\0\0'

-- ff_create_execution of a plain execution. args[1] is a byte 1, the manual clock or NONE (7 bytes), the id and the
-- record without its three first instants.
function F.create_plain(keys, args)
	local sure, sub, p, packed = F.sure, string.sub, keys[1], args[1]
	local now, id = struct.unpack('>I7c16', packed, 2)
	now = F.clock(now)
	local key = p .. 'e' .. id
	local raw = redis.call('GET', key)
	if raw then
		local old = F.find(F.begin(p, now), id, raw)
		if old and old.keyend == NONE and old.print == sub(packed, 24 + 285, 24 + 316) then
			return { 'already_exists', F.summary(old) }
		end
		return { '!', 'execution_already_exists' }
	end
	-- The record begins behind 24 bytes.
	local length = struct.unpack('>I2', packed, 24 + 23)
	local adm, prio = struct.unpack('>Bi4', packed, 24 + 224)
	local route = sub(packed, 24 + BYTES + 1, 24 + BYTES + length)
	local lane = F.lane_of(route)
	local set = length > #lane + 1
	if set then
		local refused = F.may_register({ p = p }, route)
		if refused then
			return refused
		end
	end
	local at = struct.pack('>I7', now)
	local record = sub(packed, 25, 24 + 147) .. at .. at .. sub(packed, 24 + 162, 24 + 228) .. at .. sub(packed, 24 + 236)
	sure('ZADD', p .. (adm == 1 and 'g' or 'r') .. route, -prio, at .. id)
	sure('ZADD', p .. 'x', 0, id)
	if args[2] == '' then
		sure('SET', key, record)
	else
		sure('MSET', p .. 'p' .. id, args[2], key, record)
	end
	if sure('HINCRBY', p .. 'n' .. lane, 1, 1) == 1 then
		sure('SADD', p .. 'N', lane)
	end
	if set then
		sure('HINCRBY', p .. 'l' .. lane, sub(route, #lane + 2), 1)
	end
	sure('PUBLISH', F.channel(p) .. lane, '')
	return { 'created', '\1\1\0\0\0\0\0' }
end

-- The first claim of the execution of a stored record: the record as it then is, when its attempt's time is up (NONE);
-- nil if the execution is not plain. `now7` and `expires7` are instants as records hold them, `length` the holder's.
function F.claim_plain(raw, now, now7, expires7, holder, length, lease, attempt)
	local n, sub = #raw, string.sub
	if n < BYTES or sub(raw, 5, 22) ~= PLAIN or sub(raw, 67, 72) ~= FRESH then
		return nil
	end
	local version, s, a, b = string.byte(raw, 1, 4)
	local r, t, z, o, deadline, timeout = struct.unpack(CLAIM, raw, 23)
	local lane = string.find(raw, '\n', BYTES + 1, true)
	-- The length says that there is no last call either.
	if version ~= 1 or s ~= 1 or a > 3 or b ~= 0 or not lane or lane > BYTES + r or deadline <= now
		or BYTES + r + t + z + o ~= n then
		return nil
	end
	local due, due7 = NONE, NO
	if timeout ~= NONE then
		due = F.after(now, timeout)
		due7 = struct.pack('>I7', due)
	end
	return '\1\5\0\0' .. sub(raw, 5, 66) .. length .. '\0\0\0\1' .. now7 .. lease .. '\0\0\0\0\0\0\1' .. attempt .. '\1'
		.. sub(raw, 49, 52) .. now7 .. '\0\32\0\0\0\0\0\0\32\0\0\0\0\0\0\0\0' .. now7 .. now7
		.. '\32\0\0\0\0\0\0\32\0\0\0\0\0\0\0\0\1' .. due7 .. '\32\0\0\0\0\0\0\32\0\0\0\0\0\0\0\0\1' .. now7
		.. expires7 .. NO .. sub(raw, 224) .. holder, due
end

-- ff_claim_next with one slot, in a lane where no set is registered and nobody waits for admission; the lease is
-- nobody's and no timer is due. Its answer; nil if the head of the queue is not plain.
function F.claim_one(p, now, ttl, lane, holder, lease, attempt, soonest)
	local call, pack = redis.call, struct.pack
	local queue = p .. 'r' .. lane .. '\n'
	local member = call('ZRANGE', queue, 0, 0)[1]
	if not member then
		return { 'next', {}, {}, 0, F.opt(soonest) }
	end
	local id = string.sub(member, 8)
	local key = p .. 'e' .. id
	local got = call('MGET', key, p .. 'p' .. id)
	if not got[1] then
		return nil
	end
	local expires = F.after(now, ttl)
	local record, due = F.claim_plain(
		got[1], now, pack('>I7', now), pack('>I7', expires), holder, pack('>I2', #holder), lease, attempt
	)
	if not record then
		return nil
	end
	local sure = F.sure
	if due == NONE then
		sure('ZADD', p .. 't', expires, '\1\0' .. id)
	else
		sure('ZADD', p .. 't', expires, '\1\0' .. id, due, '\2\0' .. id)
	end
	sure('HSET', p .. 'L', lease, id)
	sure('SET', key, record)
	sure('ZREM', queue, member)
	if sure('HINCRBY', p .. 'n' .. lane, 21, 1) == 1 then
		sure('SADD', p .. 'N', lane)
	end
	if expires < soonest then
		soonest = expires
	end
	if due < soonest then
		soonest = due
	end
	return { 'next', { { id, 1, record, got[2], false, false } }, {}, call('ZCARD', queue), soonest }
end

-- ff_complete_execution of a plain RUNNING execution by the worker that owns it. `raw` is its record, `last` what its
-- last call will say behind operation, actor and run: digest, answer, fence.
function F.complete_plain(p, now, id, raw, last, result, encoding)
	local unpack_, byte, sub, n = struct.unpack, string.byte, string.sub, #raw
	if n < BYTES or sub(raw, 5, 22) ~= PLAIN or sub(raw, 80, 118) ~= sub(last, 48) then
		return nil
	end
	local version, s, a, b = byte(raw, 1, 4)
	local r, t, z, o, deadline, _, _, retention, keyend, h = unpack_(COMPLETE, raw, 23)
	local l, at = unpack_('>I2', raw, 146), string.find(raw, '\n', BYTES + 1, true)
	if version ~= 1 or s ~= 5 or a > 4 or b ~= 0 or byte(raw, 178) ~= 1 or unpack_('>I7', raw, 210) <= now
		or sub(raw, 69, 72) == '\0\0\0\0' or not at or at > BYTES + r or BYTES + r + t + z + o + h + l ~= n then
		return nil
	end
	local purge = F.after(now, retention)
	if keyend ~= NONE and keyend > purge then
		purge = keyend
	end
	local sure, pack = F.sure, struct.pack
	local lane = sub(raw, BYTES + 1, at - 1)
	local timers, now7 = p .. 't', pack('>I7', now)
	local run = sub(raw, 49, 52)
	if result then
		sure('HSET', p .. 'o' .. id, unpack_('>I4', run) .. 'r', result)
	end
	if encoding then
		sure('HSET', p .. 'o' .. id, unpack_('>I4', run) .. 'e', encoding)
	end
	sure('ZADD', timers, purge, '\9\0' .. id)
	sure(
		'SET', p .. 'e' .. id,
		'\1\9\0\1' .. sub(raw, 5, 145) .. '\0\92' .. now7 .. now7 .. now7 .. pack('>I7', purge)
			.. '\1\2\3\32\0\0\0\0\0\0\32\0\0\0\0\0\0' .. now7 .. '\1\2\0\32\0\0\0\0\0\0\32\0\0\0\0\0\0\32\0\0\0\0\0\0'
			.. sub(raw, 224, n - l) .. '\1\1' .. run .. last
	)
	sure('ZREM', timers, '\1\0' .. id)
	if sub(raw, 179, 185) ~= NO then
		sure('ZREM', timers, '\2\0' .. id)
	end
	if deadline ~= NONE then
		sure('ZREM', timers, '\3\0' .. id)
	end
	sure('HDEL', p .. 'L', sub(raw, 80, 95))
	if sure('HINCRBY', p .. 'n' .. lane, 87, 1) == 1 then
		sure('SADD', p .. 'N', lane)
	end
	if at < BYTES + r then
		local set = sub(raw, at + 1, BYTES + r)
		local left = sure('HINCRBY', p .. 'l' .. lane, set, -1)
		if left and left < 1 then
			F.unregister(sure, p, lane, set)
		end
	end
	return { 'completed', '\9\0\1' .. sub(raw, 69, 72) }
end
