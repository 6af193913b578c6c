-- Domain budget: resources.md, section 1. A budget is a partition of its own: keys[1] is its prefix.
--
-- Keys: `d` (hash, truth) the record in the contract's flat form; `u`, `c` (hashes, truth) dedup key of a report, of a
-- reset -> packed { 1, recorded_at, content, result as JSON }; `U`, `C` (sorted sets) the same keys by recorded_at, by
-- which they are forgotten.

local F = F

local text, MAX = F.digits, F.MAX

local VERSION = '1.0'
local MAX_DIMENSIONS = 64
-- How long a dedup key is remembered, and how many that are older one call forgets.
local REMEMBERED_MS = 86400000
local FORGOTTEN = 16

-- A number of the record; nil if it is optional and absent.
local function number(t, field, optional)
	return F.number(t, field, 'budget', optional)
end

-- Changes of the record are made in `t` and kept in `w`: field -> text, or false for one that goes.
local function put(t, w, field, value)
	t[field] = value or nil
	w[field] = value
end

local function clear(t, w)
	for field in pairs(t) do
		if string.sub(field, 1, 6) == 'usage:' then
			put(t, w, field, false)
		end
	end
	if t.exhausted_at then
		put(t, w, 'exhausted_at', false)
		put(t, w, 'exhausted_dimension', false)
	end
end

-- The due rule: takes the budget as of now. Whatever is due is a change like any other: only a write stores it.
local function fall_due(c, t, w)
	local next_at = number(t, 'next_reset_at', true)
	if not next_at or next_at > c.now then
		return
	end
	local interval = number(t, 'reset_interval_ms')
	local rest = math.fmod(c.now - next_at, interval)
	local last = c.now - rest
	clear(t, w)
	put(t, w, 'last_reset_at', text(last))
	if t.last_reset_by then
		put(t, w, 'last_reset_by', false)
	end
	local missed = (last - next_at) / interval + 1
	put(t, w, 'reset_count', text(math.min(number(t, 'reset_count') + missed, MAX)))
	put(t, w, 'next_reset_at', text(F.after(last, interval)))
end

-- Writes the changes: first what is set, then what goes.
local function store(c, w)
	local key, set, gone = c.p .. 'd', {}, {}
	for field, value in pairs(w) do
		if value then
			set[#set + 1] = field
			set[#set + 1] = value
		else
			gone[#gone + 1] = field
		end
	end
	if #set > 0 then
		F.sure('HSET', key, unpack(set))
	end
	if #gone > 0 then
		F.sure('HDEL', key, unpack(gone))
	end
end

local function count(t, w, field)
	put(t, w, field, text(math.min(number(t, field) + 1, MAX)))
end

-- What is remembered under a dedup key of a scope ('u' reports, 'c' resets): { 1, recorded_at, content, result }.
local function recall(c, scope, key)
	local packed = key and redis.call('HGET', c.p .. scope, key)
	if not packed then
		return nil
	end
	local ok, known = pcall(cmsgpack.unpack, packed)
	if not ok or type(known) ~= 'table' or known[1] ~= 1 then
		F.corrupt('budget_key')
	end
	if F.after(known[2], REMEMBERED_MS) <= c.now then
		return nil
	end
	return known
end

-- The budget of a call that may be a repeat; else nil and the answer.
local function opened(c, scope, key, content)
	local t = F.flat(c, 'budget')
	if not t then
		return nil, { '!', 'budget_not_found' }
	end
	local known = recall(c, scope, key)
	if not known then
		return t
	end
	if known[3] ~= content then
		return nil, { '!', 'dedup_key_conflict' }
	end
	return nil, { 'again', known[2], known[3], known[4] }
end

-- Some keys of a scope that have lapsed. Read before the first write: behind it nothing is to fail that need not.
local function lapsed(c, scope)
	local cut = c.now == MAX and '+inf' or text(c.now - REMEMBERED_MS)
	return redis.call('ZRANGEBYSCORE', c.p .. string.upper(scope), '-inf', cut, 'LIMIT', 0, FORGOTTEN)
end

-- Forgets what has lapsed. Whether a key has is always asked of the hash: what the clock's steps leave here longer is
-- not seen. It goes before what the call does: where it fails, nothing is charged.
local function forget(c, scope, old)
	if #old > 0 then
		F.sure('HDEL', c.p .. scope, unpack(old))
		F.sure('ZREM', c.p .. string.upper(scope), unpack(old))
	end
end

-- Remembers a call, if it has a key.
local function remember(c, scope, key, content, result)
	if key then
		F.sure('ZADD', c.p .. string.upper(scope), text(c.now), key)
		F.sure('HSET', c.p .. scope, key, cmsgpack.pack({ 1, c.now, content, result }))
	end
end

-- Whether the record has exactly this definition; `limits`: field, text, ... of hard: and soft:.
local function defined_by(t, dimensions, limits, enforcement, interval)
	if t.dimensions ~= dimensions or t.enforcement ~= enforcement or (t.reset_interval_ms or false) ~= interval then
		return false
	end
	local asked = {}
	for i = 1, #limits, 2 do
		asked[limits[i]] = true
		if t[limits[i]] ~= limits[i + 1] then
			return false
		end
	end
	for field in pairs(t) do
		local kind = string.sub(field, 1, 5)
		if (kind == 'hard:' or kind == 'soft:') and not asked[field] then
			return false
		end
	end
	return true
end

-- ff_create_budget. a: 2 id, 3 dimensions (comma-joined, ascending), 4 { 'hard:<dim>' or 'soft:<dim>', text, ... },
-- 5 enforcement, 6 reset interval as text or false.
-- Reply: { 'created' | 'already_exists', created_at }.
local function create_budget(keys, args)
	local c, a = F.open(keys, args)
	local t = F.flat(c, 'budget')
	if t then
		if not defined_by(t, a[3], a[4], a[5], a[6]) then
			return { '!', 'budget_conflict' }
		end
		return { 'already_exists', number(t, 'created_at') }
	end
	local w = {
		v = VERSION, budget_id = a[2], enforcement = a[5], created_at = text(c.now), dimensions = a[3],
		reset_count = '0', hard_breach_count = '0', soft_breach_count = '0',
	}
	for i = 1, #a[4], 2 do
		w[a[4][i]] = a[4][i + 1]
	end
	if a[6] then
		w.reset_interval_ms = a[6]
		w.next_reset_at = text(F.after(c.now, tonumber(a[6])))
	end
	store(c, w)
	return { 'created', c.now }
end

local function breach(word, dimension, usage, limit)
	return string.format(
		'{"%s_breach":{"dimension":"%s","usage":%d,"%s_limit":%d}}', word, dimension, usage, word, limit
	)
end

-- ff_report_usage. a: 2 mode, 3 { dimension, amount, ... } merged and ascending, 4 dedup key or false, 5 the content as
-- JSON, as it is compared.
-- Reply: { 'usage', result as JSON } | { 'again', recorded_at, content, result }.
local function report_usage(keys, args)
	local c, a = F.open(keys, args)
	local mode, amounts, key, content = a[2], a[3], a[4], a[5]
	local t, answer = opened(c, 'u', key, content)
	if not t then
		return answer
	end
	local old, w = lapsed(c, 'u'), {}
	fall_due(c, t, w)

	local declared = {}
	for dimension in string.gmatch(t.dimensions or F.corrupt('budget'), '[^,]+') do
		declared[dimension] = true
	end
	-- As if everything were added. A sum beyond 2^53 - 1 is at least 2^53 as a double too.
	local n, undeclared = #amounts, 0
	local before, after, hard, soft = {}, {}, {}, {}
	for i = 1, n, 2 do
		local dimension = amounts[i]
		before[i] = number(t, 'usage:' .. dimension, true) or 0
		after[i] = before[i] + amounts[i + 1]
		if after[i] > MAX then
			return { '!', 'invalid_input', 'amounts' }
		end
		hard[i] = number(t, 'hard:' .. dimension, true)
		soft[i] = number(t, 'soft:' .. dimension, true)
		if before[i] == 0 and after[i] > 0 and not declared[dimension] then
			undeclared = undeclared + 1
		end
	end
	for field in pairs(t) do
		if string.sub(field, 1, 6) == 'usage:' and not declared[string.sub(field, 7)] then
			undeclared = undeclared + 1
		end
	end
	if undeclared > MAX_DIMENSIONS then
		return { '!', 'too_many_dimensions' }
	end

	local over, above
	for i = 1, n, 2 do
		if not over and hard[i] and after[i] > hard[i] then
			over = i
		end
		if not above and soft[i] and after[i] > soft[i] then
			above = i
		end
	end
	local rejected = mode == 'reserve' and over ~= nil
	local result = '"ok"'
	if over then
		result = breach('hard', amounts[over], rejected and before[over] or after[over], hard[over])
		count(t, w, 'hard_breach_count')
		put(t, w, 'last_breach_at', text(c.now))
		put(t, w, 'last_breach_dimension', amounts[over])
	elseif above then
		result = breach('soft', amounts[above], after[above], soft[above])
		count(t, w, 'soft_breach_count')
	end
	for i = 1, n, 2 do
		if not rejected and after[i] ~= before[i] then
			put(t, w, 'usage:' .. amounts[i], text(after[i]))
		end
		if not t.exhausted_at and hard[i] then
			local full
			if rejected then
				full = before[i] >= hard[i] or (after[i] > hard[i] and amounts[i + 1] <= hard[i])
			else
				full = after[i] >= hard[i]
			end
			if full then
				put(t, w, 'exhausted_at', text(c.now))
				put(t, w, 'exhausted_dimension', amounts[i])
			end
		end
	end
	forget(c, 'u', old)
	store(c, w)
	remember(c, 'u', key, content, result)
	return { 'usage', result }
end

-- ff_reset_budget. a: 2 by, 3 dedup key or false.
-- Reply: { 'reset', result as JSON } | { 'again', recorded_at, by, result }.
local function reset_budget(keys, args)
	local c, a = F.open(keys, args)
	local by, key = a[2], a[3]
	local t, answer = opened(c, 'c', key, by)
	if not t then
		return answer
	end
	local old, w = lapsed(c, 'c'), {}
	fall_due(c, t, w)
	clear(t, w)
	put(t, w, 'last_reset_at', text(c.now))
	put(t, w, 'last_reset_by', by)
	count(t, w, 'reset_count')
	number(t, 'next_reset_at', true)
	local result = string.format(
		'{"reset_count":%s,"last_reset_at":%d,"next_reset_at":%s}', t.reset_count, c.now, t.next_reset_at or 'null'
	)
	forget(c, 'c', old)
	store(c, w)
	remember(c, 'c', key, by, result)
	return { 'reset', result }
end

-- ff_get_budget_status. The due rule is a pure function of the record and the clock: Rust applies it.
-- Reply: { 'status', now, { field, value, ... } }.
local function get_budget_status(keys, args)
	local c = F.open(keys, args)
	local flat = redis.call('HGETALL', c.p .. 'd')
	if #flat == 0 then
		return { '!', 'budget_not_found' }
	end
	return { 'status', c.now, flat }
end

redis.register_function('ff_create_budget', F.settled(create_budget))
redis.register_function('ff_report_usage', F.settled(report_usage))
redis.register_function('ff_reset_budget', F.settled(reset_budget))
redis.register_function {
	function_name = 'ff_get_budget_status', callback = get_budget_status, flags = { 'no-writes' },
}
