-- Domain flow: flow.md, section 4: edges, and what they mean to a member. `E<flow>` holds edge id -> packed edge; of
-- each member `>` and its id its outgoing edges by seq, `<` and its id its incoming ones.

local F = F

local EDGE_STATE = { 'staged', 'pending', 'satisfied', 'impossible' }

-- The stored form of an edge: version, seq, upstream, downstream, kind (1 success only, 2 any terminal), created, data
-- name, state, applied, and of a resolved one run, outcome, attempt, instant; what is absent is false.
function F.pack_edge(e)
	return cmsgpack.pack({
		1, e.seq, e.up, e.down, e.kind, e.created, e.name, e.st, e.applied, e.run, e.out, e.att, e.resolved,
	})
end

-- The edge, or nil; nil and 'corrupt' if its record cannot be decoded.
function F.edge(c, flow, id)
	local edges = c.edges
	if not edges then
		edges = {}
		c.edges = edges
	end
	local e = edges[id]
	if e ~= nil then
		return e or nil
	end
	local s = redis.call('HGET', c.p .. 'E' .. flow, id)
	if not s then
		edges[id] = false
		return nil
	end
	local ok, v = pcall(cmsgpack.unpack, s)
	if not ok or type(v) ~= 'table' or v[1] ~= 1 or #v ~= 13 then
		return nil, 'corrupt'
	end
	e = {
		id = id, flow = flow, seq = v[2], up = v[3], down = v[4], kind = v[5], created = v[6], name = v[7], st = v[8],
		applied = v[9], run = v[10], out = v[11], att = v[12], resolved = v[13],
	}
	edges[id] = e
	return e
end

-- The edge; one that cannot be read ends the call.
function F.must_edge(c, flow, id)
	local e = F.edge(c, flow, id)
	if not e then
		F.corrupt('edge', id)
	end
	return e
end

-- Marks an edge for writing.
function F.put_edge(c, e)
	e.dirty = true
end

-- A new edge, staged.
function F.new_edge(c, fl, id, up, down, kind, name)
	local seq = fl.seq
	local e = {
		id = id, flow = fl.id, seq = seq, up = up, down = down, kind = kind, created = c.now, name = name, st = 1,
		applied = false, run = false, out = false, att = false, resolved = false, dirty = true,
	}
	c.edges = c.edges or {}
	c.edges[id] = e
	F.set_flow(c, fl, 'seq', seq + 1)
	F.set_flow(c, fl, 'edges', fl.edges + 1)
	F.write(c, 'ZADD', c.p .. '>' .. up, seq, id .. down)
	F.write(c, 'ZADD', c.p .. '<' .. down, seq, id .. up)
	return e
end

-- A staged edge counts from now on, as its upstream decides.
function F.apply_verdict(c, e, u, d)
	local state, run, outcome, attempt = F.verdict(u, e.kind)
	e.applied = c.now
	F.decide(c, e, state, run, outcome, attempt)
	F.recount(c, d, 1, state)
end

local function apply_edge(c, e, u, d)
	F.use_step(c)
	F.apply_verdict(c, e, u, d)
	F.gate_member(c, d)
end

local SHA = {}

local function sha_constants()
	local k, primes, n = {}, {}, 2
	local function frac(v)
		return math.floor((v - math.floor(v)) * 4294967296)
	end
	local h = {}
	while #k < 64 do
		local prime = true
		for i = 1, #primes do
			if n % primes[i] == 0 then
				prime = false
				break
			end
		end
		if prime then
			primes[#primes + 1] = n
			k[#k + 1] = frac(n ^ (1 / 3))
			if #h < 8 then
				h[#h + 1] = frac(n ^ 0.5)
			end
		end
		n = n + 1
	end
	SHA.k, SHA.h = k, h
end

-- SHA-256.
function F.sha256(text)
	if not SHA.k then
		sha_constants()
	end
	local band, bxor, bnot, ror, rshift = bit.band, bit.bxor, bit.bnot, bit.ror, bit.rshift
	local padded = text .. '\128' .. string.rep('\0', (55 - #text) % 64) .. struct.pack('>I4I4', 0, #text * 8)
	local h = { unpack(SHA.h) }
	local k = SHA.k
	for at = 1, #padded, 64 do
		local w = { struct.unpack('>' .. string.rep('I4', 16), padded, at) }
		for i = 17, 64 do
			local p, q = w[i - 15], w[i - 2]
			local s0 = bxor(ror(p, 7), ror(p, 18), rshift(p, 3))
			local s1 = bxor(ror(q, 17), ror(q, 19), rshift(q, 10))
			w[i] = (w[i - 16] + s0 + w[i - 7] + s1) % 4294967296
		end
		local a, b, c, d, e, f, g, z = unpack(h)
		for i = 1, 64 do
			local s1 = bxor(ror(e, 6), ror(e, 11), ror(e, 25))
			local ch = bxor(band(e, f), band(bnot(e), g))
			local t1 = (z + s1 + ch + k[i] + w[i]) % 4294967296
			local s0 = bxor(ror(a, 2), ror(a, 13), ror(a, 22))
			local maj = bxor(band(a, b), band(a, c), band(b, c))
			local t2 = (s0 + maj) % 4294967296
			z, g, f, e, d, c, b, a = g, f, e, (d + t1) % 4294967296, c, b, a, (t1 + t2) % 4294967296
		end
		local add = { a, b, c, d, e, f, g, z }
		for i = 1, 8 do
			h[i] = (h[i] + add[i]) % 4294967296
		end
	end
	return struct.pack('>I4I4I4I4I4I4I4I4', unpack(h))
end

-- The digest of the replay that reopens d.
function F.replay_digest(c, d, reason, by)
	local out = {}
	local function put(s)
		out[#out + 1] = struct.pack('>I4', #s) .. s
	end
	put('replay_execution/1')
	put(F.id_text(c, d.id))
	put(F.digits(d.replays))
	put(reason)
	put(by)
	out[#out + 1] = '\255\255\255\255'
	put('1')
	return F.sha256(table.concat(out))
end

-- The results that a claim of x names: list of { edge, upstream, name, outcome, run, attempt or false, size or false }.
function F.inputs(c, x)
	if x.inc == 0 then
		return false
	end
	local out = {}
	local incoming = redis.call('ZRANGE', c.p .. '<' .. x.id, 0, -1)
	for i = 1, #incoming do
		local e = F.must_edge(c, x.flow, string.sub(incoming[i], 1, 16))
		if e.name and e.run then
			local key, field = c.p .. 'o' .. e.up, string.format('%dr', e.run)
			local size = redis.call('HEXISTS', key, field) == 1 and redis.call('HSTRLEN', key, field)
			out[#out + 1] = { e.id, e.up, e.name, F.OUTCOME[e.out], e.run, e.att, size }
		end
	end
	return #out > 0 and out
end

-- The cycle that an edge would close: joined ids from upstream back to it; or nil and whether the search was too long.
local function find_cycle(c, fl, up, down, limit)
	local call, p = redis.call, c.p
	if call('EXISTS', p .. '<' .. up) == 0 or call('EXISTS', p .. '>' .. down) == 0 then
		return nil
	end
	local from, queue, head, read = { [down] = down }, { down }, 1, 0
	while queue[head] do
		local node = queue[head]
		head = head + 1
		local out = call('ZRANGE', p .. '>' .. node, 0, limit - read)
		for i = 1, #out do
			if read == limit then
				return nil, true
			end
			read = read + 1
			local following = string.sub(out[i], 17)
			if following == up then
				local cycle, at = { up }, node
				while at ~= down do
					table.insert(cycle, 1, at)
					at = from[at]
				end
				table.insert(cycle, 1, down)
				table.insert(cycle, 1, up)
				return table.concat(cycle)
			end
			if not from[following] then
				from[following] = node
				queue[#queue + 1] = following
			end
		end
	end
	return nil
end

-- Refuses what has no room: pair, data name, caps.
local function check_room(c, fl, up, down, name, caps)
	local incoming = redis.call('ZRANGE', c.p .. '<' .. down, 0, -1)
	for i = 1, #incoming do
		if string.sub(incoming[i], 17) == up then
			return { '!', 'dependency_already_exists', string.sub(incoming[i], 1, 16) }
		end
	end
	local data = 0
	if name then
		for i = 1, #incoming do
			local e = F.must_edge(c, fl.id, string.sub(incoming[i], 1, 16))
			if e.name == name then
				return { '!', 'data_name_conflict', e.id }
			end
			if e.name then
				data = data + 1
			end
		end
	end
	if fl.edges >= caps[2] then
		return { '!', 'flow_too_large', 'edges', caps[2] }
	end
	if #incoming >= caps[3] then
		return { '!', 'fan_in_limit', 'edges', caps[3] }
	end
	if name and data >= caps[4] then
		return { '!', 'fan_in_limit', 'data_edges', caps[4] }
	end
	if redis.call('ZCARD', c.p .. '>' .. up) >= caps[5] then
		return { '!', 'fan_out_limit', caps[5] }
	end
	return nil
end

-- ff_stage_dependency_edge. a: 2 flow, 3 edge, 4 upstream, 5 downstream, 6 kind, 7 name or false, 8 apply, 9 reject,
-- 10 expected revision or false, 11 caps.
-- Reply: { 'staged', revision, state, child, cascade } | { 'already_staged', revision, state, child }.
local function stage_dependency_edge(c, a, fl)
	local up, down, kind, name, caps = a[4], a[5], a[6], a[7], a[11]
	local known, why = F.edge(c, fl.id, a[3])
	if why then
		F.corrupt('edge', a[3])
	end
	if known then
		if known.up ~= up or known.down ~= down or known.kind ~= kind or known.name ~= name then
			return { '!', 'dependency_already_exists', a[3] }
		end
		return { 'already_staged', fl.rev, EDGE_STATE[known.st], F.summary(F.find(c, down)) }
	end
	local refused = F.open_to_structure(fl)
	if refused then
		return refused
	end
	if a[10] and a[10] ~= fl.rev then
		return { '!', 'stale_graph_revision', fl.rev }
	end
	for _, id in ipairs({ up, down }) do
		if not redis.call('ZSCORE', c.p .. 'M' .. fl.id, id) then
			return { '!', 'execution_not_in_flow', id }
		end
	end
	local d, u = F.find(c, down), F.find(c, up)
	if d.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[d.b] }
	end
	if a[9] and u.s == 9 then
		return { '!', 'upstream_already_terminal', F.OUTCOME[u.b] }
	end
	refused = check_room(c, fl, up, down, name, caps)
	if refused then
		return refused
	end
	local cycle, over = find_cycle(c, fl, up, down, caps[6])
	if cycle then
		return { '!', 'cycle_detected', cycle }
	end
	if over then
		return { '!', 'graph_too_large', caps[6] }
	end
	local e = F.new_edge(c, fl, a[3], up, down, kind, name)
	F.set_flow(c, fl, 'rev', fl.rev + 1)
	F.touch_flow(c, fl)
	if a[8] then
		apply_edge(c, e, u, d)
	end
	F.finish(c)
	return { 'staged', fl.rev, EDGE_STATE[e.st], F.summary(d), F.cascade(c) }
end

-- ff_apply_dependency_to_child. a: 2 flow, 3 edge, 4 upstream, 5 downstream, 6 kind, 7 name or false.
-- Reply: { 'applied', unresolved, state, child, cascade } | { 'already_applied', unresolved, state, child }.
local function apply_dependency_to_child(c, a, fl)
	local e, why = F.edge(c, fl.id, a[3])
	if why then
		F.corrupt('edge', a[3])
	end
	if not e then
		return { '!', 'edge_not_found', a[3] }
	end
	local differs
	if e.up ~= a[4] then
		differs = 'upstream_execution_id'
	elseif e.down ~= a[5] then
		differs = 'downstream_execution_id'
	elseif e.kind ~= a[6] then
		differs = 'dependency_kind'
	elseif e.name ~= a[7] then
		differs = 'data_passing_ref'
	end
	if differs then
		return { '!', 'dependency_spec_mismatch', differs }
	end
	local d = F.find(c, e.down)
	if e.st ~= 1 then
		return { 'already_applied', d.unres, EDGE_STATE[e.st], F.summary(d) }
	end
	if F.is_closed(fl) then
		return F.already_terminal(fl)
	end
	if d.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[d.b] }
	end
	local u = F.find(c, e.up)
	F.touch_flow(c, fl)
	apply_edge(c, e, u, d)
	F.finish(c)
	return { 'applied', d.unres, EDGE_STATE[e.st], F.summary(d), F.cascade(c) }
end

-- ff_resolve_dependency. a: 2 flow, 3 edge, 4 outcome or false.
-- Reply: { 'satisfied', child, cascade } | { 'impossible', child, skipped, cascade } | { 'already_resolved', state,
-- child }.
local function resolve_dependency(c, a, fl)
	local e, why = F.edge(c, fl.id, a[3])
	if why then
		F.corrupt('edge', a[3])
	end
	if not e then
		return { '!', 'edge_not_found', a[3] }
	end
	if e.st == 1 then
		return { '!', 'edge_not_applied' }
	end
	if e.run then
		if a[4] and a[4] ~= F.OUTCOME[e.out] then
			return { '!', 'dependency_resolution_mismatch', F.OUTCOME[e.out] }
		end
		return { 'already_resolved', EDGE_STATE[e.st], F.summary(F.find(c, e.down)) }
	end
	if fl.frozen then
		return F.already_terminal(fl)
	end
	local u = F.find(c, e.up)
	if u.s ~= 9 then
		return { '!', 'upstream_not_terminal', F.PUBLIC[F.public(u)] }
	end
	if a[4] and a[4] ~= F.OUTCOME[u.b] then
		return { '!', 'dependency_resolution_mismatch', F.OUTCOME[u.b] }
	end
	local d = F.find(c, e.down)
	local was = F.public(d)
	F.examine_edge(c, e)
	F.finish(c)
	if e.st == 4 then
		local skipped = was ~= 11 and F.public(d) == 11
		return { 'impossible', F.summary(d), skipped and 1 or 0, F.cascade(c) }
	end
	return { 'satisfied', F.summary(d), F.cascade(c) }
end

-- The pending incoming edges of a member whose upstream has ended, by seq.
local function owed(c, x)
	local out = {}
	if not x.flow or x.unres == 0 then
		return out
	end
	local incoming = redis.call('ZRANGE', c.p .. '<' .. x.id, 0, -1)
	for i = 1, #incoming do
		local e = F.edge(c, x.flow, string.sub(incoming[i], 1, 16))
		if e and e.st == 2 then
			local u = F.look(c, e.up)
			if u and u.s == 9 then
				out[#out + 1] = e
			end
		end
	end
	return out
end

-- ff_evaluate_flow_eligibility. a: 2 execution. Reply: { 'status', record, covered, pending resolution }.
local function evaluate_flow_eligibility(c, a, x)
	return { 'status', x.raw, F.covered(c, x) and 1 or 0, #owed(c, x) }
end

-- ff_promote_blocked_to_eligible. a: 2 execution.
-- Reply: { 'promoted' | 'skipped', summary, cascade } | { 'still_blocked', unresolved, impossible, summary, cascade } |
-- { 'already_eligible', summary }.
local function promote_blocked_to_eligible(c, a, x)
	if x.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[x.b] }
	end
	if x.s > 4 then
		return { '!', 'not_runnable', F.PHASE[x.s] }
	end
	local fl = x.flow and F.flow(c, x.flow)
	if fl and fl.frozen then
		return F.already_terminal(fl)
	end
	if x.s ~= 3 then
		return { 'already_eligible', F.summary(x) }
	end
	if x.held == 1 then
		x.held = 0
		F.put(c, x)
	end
	local edges = owed(c, x)
	for i = 1, #edges do
		if x.s == 9 or F.steps_left(c) == 0 then
			break
		end
		F.examine_edge(c, edges[i])
	end
	F.gate_member(c, x)
	F.finish(c)
	if x.s == 3 then
		return { 'still_blocked', x.unres, x.imp, F.summary(x), F.cascade(c) }
	end
	if x.s == 9 then
		return { 'skipped', F.summary(x), F.cascade(c) }
	end
	return { 'promoted', F.summary(x), F.cascade(c) }
end

-- An edge as reads get it: id, record, the upstream's present run.
local function shown(c, fl, id, out)
	local s = redis.call('HGET', c.p .. 'E' .. fl.id, id)
	local e = F.must_edge(c, fl.id, id)
	local u = F.find(c, e.up)
	local n = #out
	out[n + 1], out[n + 2], out[n + 3] = id, s, u and u.replays or 0
	return out
end

-- ff_describe_edge. a: 2 flow, 3 edge. Reply: { 'edges', frozen, { id, record, upstream's run }, more }.
local function describe_edge(c, a, fl)
	if redis.call('HEXISTS', c.p .. 'E' .. fl.id, a[3]) == 0 then
		return { '!', 'edge_not_found', a[3] }
	end
	return { 'edges', fl.frozen and 1 or 0, shown(c, fl, a[3], {}), 0 }
end

-- ff_list_edges. a: 2 flow, 3 node, 4 outgoing, 5 after this seq, 6 limit. Reply: as ff_describe_edge.
local function list_edges(c, a, fl)
	if not redis.call('ZSCORE', c.p .. 'M' .. fl.id, a[3]) then
		return { '!', 'execution_not_in_flow', a[3] }
	end
	local key = c.p .. (a[4] and '>' or '<') .. a[3]
	local page = redis.call('ZRANGEBYSCORE', key, string.format('(%d', a[5]), '+inf', 'LIMIT', 0, a[6] + 1)
	local n = math.min(#page, a[6])
	local out = {}
	for i = 1, n do
		shown(c, fl, string.sub(page[i], 1, 16), out)
	end
	return { 'edges', fl.frozen and 1 or 0, out, #page > n and 1 or 0 }
end

redis.register_function('ff_stage_dependency_edge', F.on_flow(stage_dependency_edge))
redis.register_function('ff_apply_dependency_to_child', F.on_flow(apply_dependency_to_child))
redis.register_function('ff_resolve_dependency', F.on_flow(resolve_dependency))
redis.register_function('ff_promote_blocked_to_eligible', F.on_execution(promote_blocked_to_eligible))
redis.register_function {
	function_name = 'ff_evaluate_flow_eligibility', callback = F.on_execution(evaluate_flow_eligibility),
	flags = { 'no-writes' },
}
redis.register_function {
	function_name = 'ff_describe_edge', callback = F.on_flow(describe_edge), flags = { 'no-writes' },
}
redis.register_function { function_name = 'ff_list_edges', callback = F.on_flow(list_edges), flags = { 'no-writes' } }
