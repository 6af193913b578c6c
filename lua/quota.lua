-- Domain quota: resources.md, section 2. A policy is a partition of its own: keys[1] is its prefix.
--
-- Keys: `d` (hash, truth) the record in the contract's flat form. An identity is partition (2 bytes), uuid and attempt
-- index (4 bytes); a waiter the first 18 of these bytes, so that they are ordered as execution ids are.
-- `w` (zset, truth) window entries: t, identity. `S` (zset, truth) slots: expires_at, identity; `s` (hash, truth)
-- identity -> lease epoch. `W` (zset, truth) waiters by first refusal; `V` (zset, truth) the same by last retry_at.

local F = F

local text, MAX = F.digits, F.MAX

local VERSION = '1.0'
local MAX_WAITERS, MAX_WAKE = 10000, 16
-- How long a refusal for concurrency waits at most, and how long a waiter is kept at least.
local SLOT_RETRY_MS, GRACE_MS = 60000, 60000

local function number(t, field, optional)
	return F.number(t, field, 'quota_policy', optional)
end

-- The policy as numbers; nil if there is none.
local function load(c)
	local t, flat = F.flat(c, 'quota_policy')
	if not t then
		return nil
	end
	local q = {
		max = number(t, 'max_requests_per_window', true), window = number(t, 'window_ms', true),
		cap = number(t, 'max_concurrent', true), jitter = number(t, 'jitter_ms'), created = number(t, 'created_at'),
		flat = flat,
	}
	if (q.max == nil) ~= (q.window == nil) then
		F.corrupt('quota_policy')
	end
	q.grace = math.max(q.window or 0, GRACE_MS)
	return q
end

-- The greatest t with t + ms <= now, as a score. Sums saturate, so at the greatest instant it is every t.
local function until_(c, ms)
	if c.now >= MAX then
		return '+inf'
	end
	return text(c.now - ms)
end

-- The scores behind that one.
local function behind(c, ms)
	if c.now >= MAX then
		return '(+inf'
	end
	return '(' .. text(c.now - ms)
end

-- Calls verb on key with the list's elements, far below the stack's limit at a time.
local function each(verb, key, list)
	for i = 1, #list, 512 do
		F.sure(verb, key, unpack(list, i, math.min(i + 511, #list)))
	end
end

-- Drops what has lapsed: with the next write, so that what stands here counts. Each entry is dropped once. It is worth
-- nothing whether it stands or not: what is read behind this, with redis.call, may end the call.
local function drop_lapsed(c, q)
	local call, p = redis.call, c.p
	local gone = q.cap and call('ZRANGEBYSCORE', p .. 'S', '-inf', text(c.now)) or {}
	local lost = call('ZRANGEBYSCORE', p .. 'V', '-inf', until_(c, q.grace))
	if q.window then
		F.sure('ZREMRANGEBYSCORE', p .. 'w', '-inf', until_(c, q.window))
	end
	each('HDEL', p .. 's', gone)
	each('ZREM', p .. 'S', gone)
	each('ZREM', p .. 'W', lost)
	each('ZREM', p .. 'V', lost)
end

-- ff_create_quota_policy. a: 2 id, 3 maximum, 4 window, 5 cap (numbers or false), 6 jitter.
-- Reply: { 'created' | 'already_exists', created_at }.
local function create_quota_policy(keys, args)
	local c, a = F.open(keys, args)
	local q = load(c)
	if q then
		if (q.max or false) ~= a[3] or (q.window or false) ~= a[4] or (q.cap or false) ~= a[5] or q.jitter ~= a[6] then
			return { '!', 'quota_policy_conflict' }
		end
		return { 'already_exists', q.created }
	end
	local fields = {
		'v', VERSION, 'quota_policy_id', a[2], 'jitter_ms', text(a[6]), 'created_at', text(c.now),
	}
	local function add(name, value)
		if value then
			fields[#fields + 1] = name
			fields[#fields + 1] = text(value)
		end
	end
	add('max_requests_per_window', a[3])
	add('window_ms', a[4])
	add('max_concurrent', a[5])
	F.sure('HSET', c.p .. 'd', unpack(fields))
	return { 'created', c.now }
end

-- Makes an execution a waiter, if it is none and there is room; its rank, or the number of places when it has none. It
-- is in `V` first: from there a waiter lapses, whatever fails behind.
local function note(c, waiter)
	local call, key = redis.call, c.p .. 'W'
	local rank = call('ZRANK', key, waiter)
	if rank then
		return rank, true
	end
	if call('ZCARD', key) >= MAX_WAITERS then
		return MAX_WAITERS, false
	end
	F.sure('ZADD', c.p .. 'V', text(c.now), waiter)
	F.sure('ZADD', key, text(c.now), waiter)
	-- Read behind a write, so tried again; where that fails too the call ends with the error, whatever is answered.
	return F.sure('ZRANK', key, waiter) or 0, true
end

local function told(c, waiter, listed, retry_at)
	if listed then
		F.sure('ZADD', c.p .. 'V', text(retry_at), waiter)
	end
end

-- ff_check_admission. a: 2 identity, 3 attempt index, 4 execution id as text, 5 lease epoch, 6 slot ttl.
-- Reply: { 'admitted', slot_expires_at or false } | { 'rate_exceeded' | 'concurrency_exceeded', retry_at,
-- retry_after }.
local function check_admission(keys, args)
	local c, a = F.open(keys, args)
	local q = load(c)
	if not q then
		return { '!', 'quota_policy_not_found' }
	end
	local call, p = redis.call, c.p
	local identity, epoch = a[2], a[5]
	local waiter = string.sub(identity, 1, 18)
	local expires = F.after(c.now, a[6])
	local jitter = 0
	if q.jitter > 0 then
		jitter = math.fmod(F.fnv(text(a[3]) .. ':' .. a[4]), q.jitter + 1)
	end
	local live = q.cap and tonumber(call('ZSCORE', p .. 'S', identity))
	local stored = call('HGET', p .. 's', identity)
	if live and not tonumber(stored) then
		F.corrupt('admission_slot', identity)
	end
	drop_lapsed(c, q)

	if live and live > c.now then
		local until_then = math.max(live, expires)
		F.sure('HSET', p .. 's', identity, text(math.max(tonumber(stored), epoch)))
		F.sure('ZADD', p .. 'S', text(until_then), identity)
		return { 'admitted', until_then }
	end
	local uncharged = q.max and not call('ZSCORE', p .. 'w', identity)
	if uncharged and call('ZCARD', p .. 'w') >= q.max then
		local rank, listed = note(c, waiter)
		local place = math.fmod(rank, q.max)
		local at = F.sure('ZRANGE', p .. 'w', place, place, 'WITHSCORES')
		local t = tonumber(at and at[2]) or c.now
		local retry_at = F.after(F.after(t, q.window * (1 + (rank - place) / q.max)), jitter)
		told(c, waiter, listed, retry_at)
		return { 'rate_exceeded', retry_at, retry_at - c.now }
	end
	if q.cap and call('ZCARD', p .. 'S') >= q.cap then
		local first = tonumber(call('ZRANGE', p .. 'S', 0, 0, 'WITHSCORES')[2])
		local retry_at = F.after(math.min(first, F.after(c.now, SLOT_RETRY_MS)), jitter)
		local _, listed = note(c, waiter)
		told(c, waiter, listed, retry_at)
		return { 'concurrency_exceeded', retry_at, retry_at - c.now }
	end
	if uncharged then
		F.sure('ZADD', p .. 'w', text(c.now), identity)
	end
	if q.cap then
		F.sure('HSET', p .. 's', identity, text(epoch))
		F.sure('ZADD', p .. 'S', text(expires), identity)
	end
	F.sure('ZREM', p .. 'W', waiter)
	F.sure('ZREM', p .. 'V', waiter)
	return { 'admitted', q.cap and expires or false }
end

-- ff_release_admission. a: 2 identity, 3 lease epoch. Without a cap no slot is free, and nobody is woken.
-- Reply: { 'released', released, { waiter, ... } }.
local function release_admission(keys, args)
	local c, a = F.open(keys, args)
	local q = load(c)
	if not q then
		return { '!', 'quota_policy_not_found' }
	end
	local call, p = redis.call, c.p
	local identity = a[2]
	drop_lapsed(c, q)
	local released, free, wake = false, 0, {}
	if q.cap then
		if call('ZSCORE', p .. 'S', identity) then
			local stored = tonumber(call('HGET', p .. 's', identity))
			-- A slot whose epoch is lost lapses.
			released = stored ~= nil and stored <= a[3]
		end
		local used = call('ZCARD', p .. 'S') - (released and 1 or 0)
		free = math.min(math.max(q.cap - used, 0), MAX_WAKE)
	end
	if free > 0 then
		wake = call('ZRANGE', p .. 'W', 0, free - 1)
	end
	if released then
		F.sure('ZREM', p .. 'S', identity)
		F.sure('HDEL', p .. 's', identity)
	end
	if #wake > 0 then
		F.sure('ZREM', p .. 'W', unpack(wake))
		F.sure('ZREM', p .. 'V', unpack(wake))
	end
	return { 'released', released and 1 or 0, wake }
end

-- ff_get_quota_status.
-- Reply: { 'status', { field, value, ... }, in_window, oldest counting entry or false, in_use, waiting }.
local function get_quota_status(keys, args)
	local c = F.open(keys, args)
	local q = load(c)
	if not q then
		return { '!', 'quota_policy_not_found' }
	end
	local call, p = redis.call, c.p
	local in_window, oldest, in_use = 0, false, 0
	if q.window then
		in_window = call('ZCOUNT', p .. 'w', behind(c, q.window), '+inf')
		local first = call('ZRANGEBYSCORE', p .. 'w', behind(c, q.window), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
		oldest = first[2] and tonumber(first[2]) or false
	end
	if q.cap then
		in_use = call('ZCOUNT', p .. 'S', behind(c, 0), '+inf')
	end
	return { 'status', q.flat, in_window, oldest, in_use, call('ZCOUNT', p .. 'V', behind(c, q.grace), '+inf') }
end

redis.register_function('ff_create_quota_policy', F.settled(create_quota_policy))
redis.register_function('ff_check_admission', F.settled(check_admission))
redis.register_function('ff_release_admission', F.settled(release_admission))
redis.register_function { function_name = 'ff_get_quota_status', callback = get_quota_status, flags = { 'no-writes' } }
