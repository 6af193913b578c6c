-- Domain keystore: suspension.md, section 6. Keys: `kc` the current kid; `ks` the kids that hold a secret (a set);
-- `kr` kid -> packed { 1, digest, installed_at, secret, expires_at, revoked_at }, absent ones false.

local F = F

-- How long an expired kid keeps its secret.
local EXPIRED_MS = 86400000
local MAX_LIVE, MAX_EVER = 16, 10000

-- What a kid is worth: 'current', 'verifying', 'expired' or 'retired' (also when it was never installed).
local function worth(c, k, is_current)
	if not k or not k[4] or k[6] then
		return 'retired'
	end
	if is_current then
		return 'current'
	end
	local at = k[5]
	if at and c.now < at then
		return 'verifying'
	end
	if at and c.now < F.after(at, EXPIRED_MS) then
		return 'expired'
	end
	return 'retired'
end

local function kid_record(c, kid)
	local packed = redis.call('HGET', c.p .. 'kr', kid)
	if not packed then
		return nil
	end
	local ok, k = pcall(cmsgpack.unpack, packed)
	if not ok or type(k) ~= 'table' or k[1] ~= 1 then
		F.corrupt('kid', kid)
	end
	return k
end

-- What a kid is worth now, by its name.
function F.kid_worth(c, kid)
	return worth(c, kid_record(c, kid), redis.call('GET', c.p .. 'kc') == kid)
end

-- The current kid, or false.
function F.current_kid(c)
	return redis.call('GET', c.p .. 'kc')
end

-- The kids that hold a secret: list of { kid, record }.
local function holders(c)
	local out = {}
	local kids = redis.call('SMEMBERS', c.p .. 'ks')
	for i = 1, #kids do
		out[i] = { kids[i], kid_record(c, kids[i]) }
	end
	return out
end

-- ff_rotate_waitpoint_hmac_secret. a: 2 kid, 3 secret, 4 digest, 5 grace.
-- Reply: { 'rotated', previous or false, kid } | { 'already_current', kid }.
local function rotate(keys, args)
	local c, a = F.open(keys, args)
	local call, p = redis.call, c.p
	local kid = a[2]
	local current = call('GET', p .. 'kc')
	local known = kid_record(c, kid)
	if known then
		if known[2] ~= a[4] then
			return { '!', 'rotation_conflict', kid }
		end
		local now = worth(c, known, current == kid)
		if now == 'current' then
			return { 'already_current', kid }
		end
		if now ~= 'verifying' then
			return { '!', 'kid_retired', known[6] and 1 or 0 }
		end
	end
	local live, gone = 0, {}
	local all = holders(c)
	for i = 1, #all do
		local name, k = all[i][1], all[i][2]
		if worth(c, k, name == current) == 'retired' then
			gone[#gone + 1] = { name, k }
		else
			live = live + 1
		end
	end
	if live + (known and 0 or 1) > MAX_LIVE then
		return { '!', 'too_many_kids', 'live', MAX_LIVE }
	end
	if not known and call('HLEN', p .. 'kr') + 1 > MAX_EVER then
		return { '!', 'too_many_kids', 'ever', MAX_EVER }
	end
	local last = current and current ~= kid and kid_record(c, current)
	for i = 1, #gone do
		local name, k = gone[i][1], gone[i][2]
		if k then
			k[4] = false
			F.sure('HSET', p .. 'kr', name, cmsgpack.pack(k))
		end
		F.sure('SREM', p .. 'ks', name)
	end
	if last then
		last[5] = F.after(c.now, a[5])
		F.sure('HSET', p .. 'kr', current, cmsgpack.pack(last))
	end
	local k = known or { 1, a[4], c.now, a[3], false, false }
	k[5] = false
	F.sure('HSET', p .. 'kr', kid, cmsgpack.pack(k))
	F.sure('SADD', p .. 'ks', kid)
	F.sure('SET', p .. 'kc', kid)
	return { 'rotated', current, kid }
end

-- ff_revoke_waitpoint_kid. a: 2 kid. Reply: { 'revoked' | 'already_revoked', kid }.
local function revoke(keys, args)
	local c, a = F.open(keys, args)
	local kid = a[2]
	local k = kid_record(c, kid)
	if not k then
		return { '!', 'kid_not_found' }
	end
	if redis.call('GET', c.p .. 'kc') == kid then
		return { '!', 'kid_is_current' }
	end
	if k[6] then
		return { 'already_revoked', kid }
	end
	k[4] = false
	k[6] = c.now
	F.sure('HSET', c.p .. 'kr', kid, cmsgpack.pack(k))
	F.sure('SREM', c.p .. 'ks', kid)
	return { 'revoked', kid }
end

-- ff_list_waitpoint_hmac_kids. Reply: { 'kids', current or false, { kid, expires_at, installed_at, ... } }.
local function list(keys, args)
	local c = F.open(keys, args)
	local current = redis.call('GET', c.p .. 'kc')
	local all, out = holders(c), {}
	for i = 1, #all do
		local name, k = all[i][1], all[i][2]
		if worth(c, k, name == current) == 'verifying' then
			out[#out + 1] = name
			out[#out + 1] = k[5]
			out[#out + 1] = k[3]
		end
	end
	return { 'kids', current, out }
end

-- ff_load_waitpoint_keys, internal: current, verifying and expired kids with their secrets.
-- Reply: { 'keys', current or false, { kid, secret, digest, expires_at or false, ... } }.
local function load_keys(keys, args)
	local c = F.open(keys, args)
	local current = redis.call('GET', c.p .. 'kc')
	local all, out = holders(c), {}
	for i = 1, #all do
		local name, k = all[i][1], all[i][2]
		if worth(c, k, name == current) ~= 'retired' then
			local n = #out
			out[n + 1], out[n + 2], out[n + 3], out[n + 4] = name, k[4], k[2], k[5]
		end
	end
	return { 'keys', current, out }
end

redis.register_function('ff_rotate_waitpoint_hmac_secret', F.settled(rotate))
redis.register_function('ff_revoke_waitpoint_kid', F.settled(revoke))
redis.register_function { function_name = 'ff_list_waitpoint_hmac_kids', callback = list, flags = { 'no-writes' } }
redis.register_function { function_name = 'ff_load_waitpoint_keys', callback = load_keys, flags = { 'no-writes' } }
