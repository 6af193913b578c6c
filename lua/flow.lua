-- Domain flow: flow.md, section 4: what is asked of flows and their members. Records are in flow_records.lua, edges in
-- flow_edges.lua.

local F = F
local WIDTH = F.CANCELLATION_WIDTH
local set, touch_flow, settle, enter = F.set_flow, F.touch_flow, F.settle_flow, F.enter_flow
local is_closed, already_terminal = F.is_closed, F.already_terminal

-- A flow that does not exist yet, of the flat form that Rust made.
local function new_flow(c, id, flat)
	local h = F.map(flat)
	local fl = F.decode_flow(id, h)
	if not fl then
		F.corrupt('flow', id)
	end
	for name, value in pairs(h) do
		fl.set[name] = value
	end
	fl.set.created_at, fl.set.last_mutation_at = c.now, c.now
	fl.dirty = true
	c.flows[id] = fl
	F.write(c, 'ZADD', c.p .. 'F', 0, id)
	return fl
end

-- Refuses a flow that may not be created: nil, or the flow of equal content, or the refusal.
local function admit(c, id, digest)
	local fl = F.flow(c, id)
	if fl then
		if fl.digest ~= digest then
			return nil, { '!', 'flow_spec_conflict' }
		end
		return fl
	end
	if F.owed(c, 4, id) or redis.call('EXISTS', c.p .. 'M' .. id) == 1 then
		return nil, { '!', 'flow_already_terminal', false, false }
	end
	return nil
end

-- ff_create_flow. a: 2 flow, 3 flat form { name, value, ... }, 4 digest as text. Reply: { 'created' |
-- 'already_exists' }.
local function create_flow(keys, args)
	local c, a = F.open(keys, args)
	local known, refused = admit(c, a[2], a[4])
	if known then
		return { 'already_exists' }
	end
	if refused then
		return refused
	end
	new_flow(c, a[2], a[3])
	F.finish(c)
	return { 'created' }
end

-- ff_submit_flow. a: 2 flow, 3 flat form, 4 digest as text, 5 sealed, 6 members { id, name, then as ff_create_execution
-- from 3 to 19, payload }, 7 edges { edge, index of from, index of to, kind, name or false, ... }.
-- Reply: { 'created' | 'already_exists', revision } | { 'about', name, code, details... }.
local function submit_flow(keys, args)
	local c, a = F.open(keys, args)
	local known, refused = admit(c, a[2], a[4])
	if known then
		return { 'already_exists', known.rev }
	end
	if refused then
		return refused
	end
	local members, seen = a[6], {}
	for i = 1, #members do
		local m = members[i]
		if seen[m[1]] or redis.call('EXISTS', c.p .. 'e' .. m[1]) == 1 then
			return { 'about', m[2], 'execution_already_exists' }
		end
		seen[m[1]] = true
	end
	local lanes = {}
	for i = 1, #members do
		local lane, wanted = F.split(members[i][3])
		if wanted ~= '' then
			local key = c.p .. 'l' .. lane
			local l = lanes[lane]
			if not l then
				l = { n = redis.call('HLEN', key), sets = {} }
				lanes[lane] = l
			end
			if not l.sets[wanted] then
				l.sets[wanted] = true
				if redis.call('HEXISTS', key, wanted) == 0 then
					l.n = l.n + 1
					if l.n > 256 then
						return { 'about', members[i][2], 'too_many_capability_sets', lane, 256 }
					end
				end
			end
		end
	end
	local fl = new_flow(c, a[2], a[3])
	local xs = {}
	for i = 1, #members do
		local m = members[i]
		local x = F.new_execution(c, m[1], m, m[20])
		enter(c, fl, x, not a[5], m[2])
		xs[i] = x
	end
	local edges = a[7]
	for i = 1, #edges, 5 do
		local up, down = xs[edges[i + 1]], xs[edges[i + 2]]
		local e = F.new_edge(c, fl, edges[i], up.id, down.id, edges[i + 3], edges[i + 4])
		F.apply_verdict(c, e, up, down)
	end
	set(c, fl, 'rev', 1)
	for i = 1, #xs do
		F.gate(c, xs[i])
	end
	F.finish(c)
	return { 'created', fl.rev }
end

-- ff_add_execution_to_flow. a: 2 flow, 3 execution, 4 caps.
-- Reply: { 'added', nodes, revision, summary } | { 'already_member', nodes, summary }.
local function add_execution_to_flow(c, a, fl)
	local x = F.find(c, a[3])
	if not x then
		return { '!', 'execution_not_found' }
	end
	if x.flow == fl.id then
		return { 'already_member', fl.nodes, F.summary(x) }
	end
	if x.flow then
		return { '!', 'execution_already_in_flow', x.flow }
	end
	local refused = F.open_to_structure(fl)
	if refused then
		return refused
	end
	if cmsgpack.unpack(x.core)[1] ~= fl.namespace then
		return { '!', 'namespace_mismatch' }
	end
	if x.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[x.b] }
	end
	if fl.nodes >= a[4][1] then
		return { '!', 'flow_too_large', 'members', a[4][1] }
	end
	enter(c, fl, x, false, '')
	set(c, fl, 'rev', fl.rev + 1)
	touch_flow(c, fl)
	F.touch(c, x)
	F.finish(c)
	return { 'added', fl.nodes, fl.rev, F.summary(x) }
end

-- How many open members are behind the cursor of a flow's walk; nil if it is not on the backlog.
local function remaining(c, kind, id)
	local cursor = F.backlog_cursor(c, kind, id)
	if cursor == nil then
		return nil
	end
	return redis.call('ZLEXCOUNT', c.p .. 'O' .. id, cursor and '(' .. cursor or '-', '+')
end

-- ff_seal_flow. a: 2 flow, 3 expected revision or false.
-- Reply: { 'sealed', revision, remaining, cascade } | { 'already_sealed', revision, remaining }.
local function seal_flow(c, a, fl)
	if fl.sealed then
		return { 'already_sealed', fl.rev, remaining(c, 3, fl.id) or 0 }
	end
	if a[3] and a[3] ~= fl.rev then
		return { '!', 'stale_graph_revision', fl.rev }
	end
	set(c, fl, 'sealed', true)
	touch_flow(c, fl)
	settle(c, fl)
	if fl.open > 0 then
		F.work(c, 3, fl.id, fl.id, false)
	end
	F.finish(c)
	return { 'sealed', fl.rev, remaining(c, 3, fl.id) or 0, F.cascade(c) }
end

-- ff_cancel_flow. a: 2 flow, 3 reason, 4 policy, 5 by.
-- Reply: { 'cancelled', policy, cancelled, nonterminal } | { 'scheduled', policy, cancelled, remaining, nonterminal }.
local function cancel_flow(c, a, fl)
	local stored, policy = fl.policy, a[4]
	if not stored and is_closed(fl) then
		return already_terminal(fl)
	end
	local cursor = F.backlog_cursor(c, 2, fl.id)
	if stored and WIDTH[stored] >= WIDTH[policy] then
		policy = stored
		if cursor ~= nil then
			F.work(c, 2, fl.id, fl.id, false, cursor)
		end
	else
		if not stored then
			set(c, fl, 'cancelled_by', a[5])
			set(c, fl, 'cancel_reason', a[3])
			fl.set.cancelled_at = c.now
		end
		if policy ~= 'flow_only' then
			if fl.open > 0 or cursor ~= nil then
				F.work(c, 2, fl.id, fl.id, false)
			end
		elseif not fl.sealed and fl.open > 0 then
			F.work(c, 3, fl.id, fl.id, false)
		end
		set(c, fl, 'policy', policy)
		fl.frozen = policy ~= 'flow_only'
		set(c, fl, 'sealed', true)
		touch_flow(c, fl)
		settle(c, fl)
	end
	F.finish(c)
	local left = remaining(c, 2, fl.id)
	if left then
		return { 'scheduled', policy, c.cancelled or 0, left, fl.open }
	end
	return { 'cancelled', policy, c.cancelled or 0, fl.open }
end

-- What a tag key of an older layout looks like among the fields of a flow.
local function is_inline_tag(name)
	return string.find(name, '^[a-z][a-z0-9_]*%..') ~= nil
end

-- ff_set_flow_tags. a: 2 flow, 3 changes { key, text or false, ... }. Reply: { 'tagged', count }.
local function set_flow_tags(c, a, fl)
	local tags, inline = {}, {}
	for name, value in pairs(fl.h) do
		if is_inline_tag(name) then
			inline[name] = true
			if not fl.h['tag:' .. name] then
				tags[name] = value
			end
		elseif string.sub(name, 1, 4) == 'tag:' then
			tags[string.sub(name, 5)] = value
		end
	end
	local changes, n = a[3], 0
	for i = 1, #changes, 2 do
		tags[changes[i]] = changes[i + 1] or nil
	end
	for _ in pairs(tags) do
		n = n + 1
	end
	if n > 64 then
		return { '!', 'too_many_tags', 64 }
	end
	for name in pairs(inline) do
		fl.set[name] = false
	end
	for name, value in pairs(tags) do
		fl.set['tag:' .. name] = value
	end
	for i = 1, #changes, 2 do
		fl.set['tag:' .. changes[i]] = changes[i + 1]
	end
	touch_flow(c, fl)
	F.finish(c)
	return { 'tagged', n }
end

-- ff_describe_flow. a: 2 flow. Reply: { 'flow', { name, value, ... } }.
local function describe_flow(keys, args)
	local c, a = F.open(keys, args)
	local flat = redis.call('HGETALL', c.p .. 'f' .. a[2])
	if #flat == 0 then
		return { '!', 'flow_not_found' }
	end
	return { 'flow', flat }
end

-- ff_list_flow_members. a: 2 flow, 3 after or false, 4 limit. Reply: { 'members', { uuid, record, ... }, more }.
local function list_flow_members(keys, args)
	local c, a = F.open(keys, args)
	if not F.flow(c, a[2]) then
		return { '!', 'flow_not_found' }
	end
	local ids = redis.call('ZRANGEBYLEX', c.p .. 'M' .. a[2], a[3] and '(' .. a[3] or '-', '+', 'LIMIT', 0, a[4] + 1)
	local out = {}
	local n = math.min(#ids, a[4])
	for i = 1, n do
		out[i * 2 - 1] = ids[i]
		out[i * 2] = redis.call('GET', c.p .. 'e' .. ids[i])
	end
	return { 'members', out, #ids > n and 1 or 0 }
end
redis.register_function('ff_create_flow', F.settled(create_flow))
redis.register_function('ff_submit_flow', F.settled(submit_flow))
redis.register_function('ff_add_execution_to_flow', F.on_flow(add_execution_to_flow))
redis.register_function('ff_seal_flow', F.on_flow(seal_flow))
redis.register_function('ff_cancel_flow', F.on_flow(cancel_flow))
redis.register_function('ff_set_flow_tags', F.on_flow(set_flow_tags))
redis.register_function { function_name = 'ff_describe_flow', callback = describe_flow, flags = { 'no-writes' } }
redis.register_function {
	function_name = 'ff_list_flow_members', callback = list_flow_members, flags = { 'no-writes' },
}
