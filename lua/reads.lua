-- Domain reads: resources.md, section 5. Records go out as they are stored; Rust unfolds them.

local F = F

-- ff_get_execution. a: 2 id. Reply: { 'record', record }.
local function get_execution(c, a, x)
	return { 'record', x.raw }
end

-- ff_describe_execution. a: 2 id. Reply: { 'record', record, suspension or false }.
local function describe_execution(c, a, x)
	return { 'record', x.raw, F.suspension_info(c, x) }
end

-- ff_get_payload. a: 2 id. Reply: { 'payload', payload or false, record }.
local function get_payload(c, a, x)
	return { 'payload', redis.call('GET', c.p .. 'p' .. x.id), x.raw }
end

-- ff_get_result. a: 2 id, 3 'last' | 'run' | 'attempt', 4 its number.
-- Reply: { 'result', run, completed_at, result or false, encoding or false, closed run or false }.
local function get_result(c, a, x)
	local call = redis.call
	local none = { '!', 'result_not_available', F.PUBLIC[F.public(x)] }
	local run = x.replays
	if a[3] == 'run' then
		run = a[4]
	elseif a[3] == 'attempt' then
		local index = a[4]
		if index >= x.attempts then
			return { '!', 'attempt_not_found' }
		end
		-- The run whose last attempt is this one: the next attempt, if there is one, belongs to a later run.
		local function run_of(i)
			if i == x.attempts - 1 then
				return x.arun
			end
			local packed = call('HGET', c.p .. 'a' .. x.id, i)
			return packed and cmsgpack.unpack(packed)[4]
		end
		run = run_of(index)
		if not run then
			F.corrupt('attempt', x.id)
		end
		if index + 1 < x.attempts and run_of(index + 1) == run then
			return none
		end
	end
	local at, record
	if run == x.replays then
		if x.s ~= 9 or x.b ~= 1 then
			return none
		end
		at = x.completed
	else
		local packed = call('HGET', c.p .. 'o' .. x.id, string.format('%dc', run))
		local closed = packed and cmsgpack.unpack(packed)
		if not closed or closed[2] ~= 1 then
			return none
		end
		at, record = closed[3], packed
	end
	local r = call('HMGET', c.p .. 'o' .. x.id, string.format('%dr', run), string.format('%de', run))
	return { 'result', run, at, r[1], r[2], record or false }
end

-- ff_list_attempts. a: 2 id, 3 first index, 4 limit. Reply: { 'attempts', record, { index, packed, ... }, more }.
local function list_attempts(c, a, x)
	local out, i = {}, a[3]
	while i < x.attempts - 1 and #out < a[4] * 2 do
		local packed = redis.call('HGET', c.p .. 'a' .. x.id, i)
		if not packed then
			F.corrupt('attempt', x.id)
		end
		out[#out + 1] = i
		out[#out + 1] = packed
		i = i + 1
	end
	if i == x.attempts - 1 and #out < a[4] * 2 then
		out[#out + 1] = i
		out[#out + 1] = F.pack_attempt(x)
		i = i + 1
	end
	return { 'attempts', out, i < x.attempts and 1 or 0 }
end

-- ff_list_executions. a: 2 after this uuid or false, 3 how many records to examine. Filters are Rust's.
-- Reply: { 'records', { uuid, record, ... }, more }.
local function list_executions(keys, args)
	local c, a = F.open(keys, args)
	local call = redis.call
	local from = a[2] and '(' .. a[2] or '-'
	local ids = call('ZRANGEBYLEX', c.p .. 'x', from, '+', 'LIMIT', 0, a[3] + 1)
	local out = {}
	local n = math.min(#ids, a[3])
	for i = 1, n do
		out[i * 2 - 1] = ids[i]
		out[i * 2] = call('GET', c.p .. 'e' .. ids[i])
	end
	return { 'records', out, #ids > n and 1 or 0 }
end

-- ff_lane_counts. a: 2 lane. Reply: { 'counts', { field, n, ... } }: a field is from * 16 + to.
local function lane_counts(keys, args)
	local c, a = F.open(keys, args)
	return { 'counts', redis.call('HGETALL', c.p .. 'n' .. a[2]) }
end

redis.register_function {
	function_name = 'ff_get_execution', callback = F.on_execution(get_execution), flags = { 'no-writes' },
}
redis.register_function {
	function_name = 'ff_describe_execution', callback = F.on_execution(describe_execution), flags = { 'no-writes' },
}
redis.register_function {
	function_name = 'ff_get_payload', callback = F.on_execution(get_payload), flags = { 'no-writes' },
}
redis.register_function {
	function_name = 'ff_get_result', callback = F.on_execution(get_result), flags = { 'no-writes' },
}
redis.register_function {
	function_name = 'ff_list_attempts', callback = F.on_execution(list_attempts), flags = { 'no-writes' },
}
redis.register_function { function_name = 'ff_list_executions', callback = list_executions, flags = { 'no-writes' } }
redis.register_function { function_name = 'ff_lane_counts', callback = lane_counts, flags = { 'no-writes' } }
