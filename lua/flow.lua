-- Domain flow: flow.md, section 4: flows, members, their lists. Edges are in flow_edges.lua, what an ending means for
-- others in cascade.lua. A flow's key holds the flat form of the contract's decoder, tags as `tag:` fields.

local F = F
local DAY = 86400000

local WIDTH = { flow_only = 1, cancel_pending = 2, cancel_all = 3 }

-- A whole number of a stored form, absent as `none`; nil if it is none.
local function number(h, name, none)
	local text = h[name]
	if not text then
		return none
	end
	return F.whole(text)
end

-- The flow of a stored form; nil if it cannot be decoded.
local function decode(id, h)
	local fl = {
		id = id, h = h, set = {}, sealed = h.sealed == '1', policy = h.cancellation_policy or false,
		cancelled_by = h.cancelled_by, cancel_reason = h.cancel_reason, namespace = h.namespace, digest = h.spec_digest,
		rev = number(h, 'graph_revision'), nodes = number(h, 'node_count'), edges = number(h, 'edge_count'),
		seq = number(h, 'next_edge_seq'), deferred = number(h, 'deferred'), retain = number(h, 'retain_until', false),
		purge = number(h, 'purge_at', false), counts = {}, open = 0,
	}
	if h.v ~= '1.0' or (fl.policy and not WIDTH[fl.policy]) or not (h.sealed == '1' or h.sealed == '0') or not fl.rev
		or not fl.nodes or not fl.edges or not fl.seq or not fl.deferred or fl.retain == nil or fl.purge == nil then
		return nil
	end
	fl.frozen = fl.policy == 'cancel_all' or fl.policy == 'cancel_pending'
	for i = 1, 11 do
		local n = number(h, 'count:' .. F.PUBLIC[i], 0)
		if not n then
			return nil
		end
		fl.counts[i] = n
		if i < 7 then
			fl.open = fl.open + n
		end
	end
	return fl
end

-- The flow if it exists, else nil; nil and 'corrupt' if its record cannot be decoded.
function F.look_flow(c, id)
	local flows = c.flows
	if not flows then
		flows = {}
		c.flows = flows
	end
	local fl = flows[id]
	if fl == nil then
		local flat = redis.call('HGETALL', c.p .. 'f' .. id)
		if #flat == 0 then
			fl = false
		else
			fl = decode(id, F.map(flat))
			if not fl then
				return nil, 'corrupt'
			end
		end
		flows[id] = fl
	end
	return fl or nil
end

-- The flow, or nil. A record that cannot be decoded ends the call.
function F.flow(c, id)
	local fl, why = F.look_flow(c, id)
	if why then
		F.corrupt('flow', id)
	end
	return fl
end

local FIELDS = {
	sealed = 'sealed', policy = 'cancellation_policy', rev = 'graph_revision', nodes = 'node_count', edges = 'edge_count',
	seq = 'next_edge_seq', deferred = 'deferred', retain = 'retain_until', purge = 'purge_at',
	cancelled_by = 'cancelled_by', cancel_reason = 'cancel_reason',
}

-- Sets a field of a flow; false removes it.
function F.set_flow(c, fl, field, value)
	fl[field] = value
	if field == 'sealed' then
		value = 1
	end
	fl.set[FIELDS[field]] = value
	fl.dirty = true
end
local set = F.set_flow

local function touch_flow(c, fl)
	fl.set.last_mutation_at = c.now
	fl.dirty = true
end
F.touch_flow = touch_flow

local function is_closed(fl)
	return fl.policy or (fl.sealed and fl.open == 0)
end
F.is_closed = is_closed

-- A closed flow without open members is purged; one that is not is not.
local function settle(c, fl)
	local due = false
	if is_closed(fl) and fl.open == 0 then
		due = fl.purge or fl.retain or F.after(c.now, DAY)
	end
	if due ~= fl.purge then
		set(c, fl, 'purge', due)
		F.timer(c, 9, '\1' .. fl.id, due)
	end
end

-- The flow's state by its counts alone.
function F.flow_state(fl)
	local n = fl.counts
	if fl.policy then
		return 'cancelled'
	end
	if fl.nodes > 0 and fl.open == 0 then
		if n[8] + n[9] + n[10] > 0 or n[7] == 0 then
			return 'failed'
		end
		return 'completed'
	end
	if n[5] > 0 then
		return 'running'
	end
	if n[6] + n[2] + n[3] + n[4] > 0 then
		return 'blocked'
	end
	return 'open'
end

local function already_terminal(fl)
	return { '!', 'flow_already_terminal', F.flow_state(fl), fl.policy }
end
F.already_terminal = already_terminal

-- Refuses members and edges where none are taken any more.
function F.open_to_structure(fl)
	if is_closed(fl) then
		return already_terminal(fl)
	end
	if fl.sealed then
		return { '!', 'flow_sealed' }
	end
	return nil
end

local function count(c, fl, state, n)
	local name = 'count:' .. F.PUBLIC[state]
	local sum = fl.counts[state] + n
	fl.counts[state] = sum
	fl.set[name] = sum > 0 and sum
	if state < 7 then
		fl.open = fl.open + n
	end
	fl.dirty = true
end

local function open_member(c, x, open)
	c.open = c.open or {}
	c.open[x.id] = { x.flow, open }
end

-- A member goes from one public state to another.
function F.member_moved(c, x, was, now)
	local fl = F.flow(c, x.flow)
	if not fl then
		return
	end
	count(c, fl, was, -1)
	count(c, fl, now, 1)
	if (was < 7) ~= (now < 7) then
		open_member(c, x, now < 7)
	end
end

local function has_outgoing(c, id)
	return redis.call('EXISTS', c.p .. '>' .. id) == 1
end

-- A member ended; its flow is kept at least until `keep`.
function F.member_ended(c, x, keep)
	local fl = F.flow(c, x.flow)
	if not fl then
		return
	end
	if not fl.retain or keep > fl.retain then
		set(c, fl, 'retain', keep)
	end
	settle(c, fl)
	if not fl.frozen and has_outgoing(c, x.id) then
		F.work(c, 1, x.id, fl.id, false)
	end
end

-- Makes x a member, counted under its present state.
local function enter(c, fl, x, held, name)
	x.flow, x.held, x.name = fl.id, held and 1 or 0, name
	x.inc, x.unres, x.sat, x.imp = 0, 0, 0, 0
	count(c, fl, F.public(x), 1)
	set(c, fl, 'nodes', fl.nodes + 1)
	open_member(c, x, true)
	F.write(c, 'ZADD', c.p .. 'M' .. fl.id, 0, x.id)
	F.put(c, x)
end

-- Refuses a joining creation. join: flow, hold, edges { edge, upstream, kind, name or false, ... }, caps, namespace.
function F.may_join(c, join)
	local fl = F.flow(c, join[1])
	if not fl then
		return { '!', 'flow_not_found' }
	end
	local refused = F.open_to_structure(fl)
	if refused then
		return refused
	end
	if fl.namespace ~= join[5] then
		return { '!', 'namespace_mismatch' }
	end
	local edges, caps = join[3], join[4]
	local ids, ups, names, data = {}, {}, {}, 0
	for i = 1, #edges, 4 do
		local id, up, name = edges[i], edges[i + 1], edges[i + 3]
		local known, why = F.edge(c, fl.id, id)
		if why then
			F.corrupt('edge', id)
		end
		if ids[id] or known then
			return { '!', 'dependency_already_exists', id }
		end
		if ups[up] then
			return { '!', 'dependency_already_exists', ups[up] }
		end
		ids[id], ups[up] = true, id
		if not redis.call('ZSCORE', c.p .. 'M' .. fl.id, up) then
			return { '!', 'execution_not_in_flow', up }
		end
		if name then
			if names[name] then
				return { '!', 'data_name_conflict', names[name] }
			end
			names[name] = id
			data = data + 1
		end
	end
	local n = #edges / 4
	if fl.nodes >= caps[1] then
		return { '!', 'flow_too_large', 'members', caps[1] }
	end
	if fl.edges + n > caps[2] then
		return { '!', 'flow_too_large', 'edges', caps[2] }
	end
	if n > caps[3] then
		return { '!', 'fan_in_limit', 'edges', caps[3] }
	end
	if data > caps[4] then
		return { '!', 'fan_in_limit', 'data_edges', caps[4] }
	end
	for i = 2, #edges, 4 do
		if redis.call('ZCARD', c.p .. '>' .. edges[i]) >= caps[5] then
			return { '!', 'fan_out_limit', caps[5] }
		end
		F.find(c, edges[i])
	end
	return nil
end

-- Joins a new execution with its edges, and runs its gate.
function F.join(c, x, join)
	local fl = F.flow(c, join[1])
	enter(c, fl, x, join[2], '')
	local edges = join[3]
	for i = 1, #edges, 4 do
		local e = F.new_edge(c, fl, edges[i], edges[i + 1], x.id, edges[i + 2], edges[i + 3])
		F.apply_verdict(c, e, F.find(c, e.up), x)
	end
	set(c, fl, 'rev', fl.rev + 1)
	touch_flow(c, fl)
	F.gate_member(c, x)
end

-- Refuses the replay of a member; what its incoming edges get is kept for it.
function F.may_replay(c, x)
	local fl = F.flow(c, x.flow)
	if not fl then
		return { '!', 'flow_not_found' }
	end
	if fl.policy then
		return already_terminal(fl)
	end
	local reread, bad = {}, {}
	local incoming = redis.call('ZRANGE', c.p .. '<' .. x.id, 0, -1)
	for i = 1, #incoming do
		local e = F.must_edge(c, fl.id, string.sub(incoming[i], 1, 16))
		local u = e.st ~= 1 and F.find(c, e.up)
		if u then
			local state, run, outcome, attempt = F.verdict(u, e.kind)
			if state == 4 and #bad < 16 then
				bad[#bad + 1] = e.id
			end
			if e.run ~= (run or false) then
				reread[#reread + 1] = { e, state, run, outcome, attempt }
			end
		end
	end
	if #bad > 0 then
		return { '!', 'deps_impossible', table.concat(bad) }
	end
	x.reread = reread
	return nil
end

-- Starts the next run of a member, its edges read anew.
function F.begin_member_run(c, x, reason, by, digest, deadline, reopen)
	F.replay(c, x, reason, by, digest, deadline)
	local fl = F.flow(c, x.flow)
	if fl then
		settle(c, fl)
		if x.s ~= 9 and not fl.frozen and has_outgoing(c, x.id) then
			F.work(c, 1, x.id, fl.id, reopen)
		end
	end
end

function F.replay_member(c, x, reason, by, digest, deadline, reopen)
	for _, r in ipairs(x.reread) do
		local was = r[1].st
		F.decide(c, r[1], r[2], r[3], r[4], r[5])
		F.recount(c, x, was, r[2])
	end
	x.reread = nil
	F.begin_member_run(c, x, reason, by, digest, deadline, reopen)
end

-- The flow's retention is due: its record goes, its members in steps.
function F.fire_flow_retention(c, id, due)
	local fl = F.flow(c, id)
	if not fl or fl.purge ~= due then
		return 'stale'
	end
	F.timer(c, 9, '\1' .. id, false)
	fl.gone, fl.dirty = true, true
	F.backlog_restart(c, 4, id, false)
	return 'done'
end

-- Nothing is left of a flow that was purged.
function F.flow_purged(c, id)
	F.sure('ZREM', c.p .. 'F', id)
	F.sure('UNLINK', c.p .. 'O' .. id, c.p .. 'E' .. id)
end

-- Writes flows, edges and lists of open members: before the executions.
function F.flush_flows(c)
	local p = c.p
	if c.edges then
		for _, e in pairs(c.edges) do
			if e and e.dirty then
				F.sure('HSET', p .. 'E' .. e.flow, e.id, F.pack_edge(e))
				e.dirty = nil
			end
		end
	end
	for id, fl in pairs(c.flows) do
		if fl and fl.gone then
			F.sure('UNLINK', p .. 'f' .. id)
			c.flows[id] = false
		elseif fl and fl.dirty then
			local hset, hdel = {}, {}
			for name, value in pairs(fl.set) do
				if value then
					hset[#hset + 1] = name
					hset[#hset + 1] = value
				else
					hdel[#hdel + 1] = name
				end
			end
			if #hset > 0 then
				F.sure('HSET', p .. 'f' .. id, unpack(hset))
			end
			if #hdel > 0 then
				F.sure('HDEL', p .. 'f' .. id, unpack(hdel))
			end
			fl.set, fl.dirty = {}, nil
		end
	end
	if c.open then
		for id, o in pairs(c.open) do
			if o[2] then
				F.sure('ZADD', p .. 'O' .. o[1], 0, id)
			else
				F.sure('ZREM', p .. 'O' .. o[1], id)
			end
		end
		c.open = nil
	end
end

-- A flow that does not exist yet, of the flat form that Rust made.
local function new_flow(c, id, flat)
	local h = F.map(flat)
	local fl = decode(id, h)
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

-- What an execution implies for its flow's lists and the backlog.
function F.rebuild_member(c, r, x)
	local call, p = redis.call, c.p
	if F.sure('ZADD', p .. 'M' .. x.flow, 0, x.id) == 1 then
		F.repaired(r, 4, 1)
	end
	if x.s ~= 9 then
		if F.sure('ZADD', p .. 'O' .. x.flow, 0, x.id) == 1 then
			F.repaired(r, 4, 1)
		end
	elseif F.sure('ZREM', p .. 'O' .. x.flow, x.id) == 1 then
		F.repaired(r, 4, 3)
	end
	local fl = F.look_flow(c, x.flow)
	if fl and not fl.frozen then
		local out = call('ZRANGE', p .. '>' .. x.id, 0, -1)
		for i = 1, #out do
			if F.plan_edge(c, F.edge(c, fl.id, string.sub(out[i], 1, 16))) then
				F.rebuild_owed(c, r, 1, x.id, fl.id)
				return
			end
		end
	end
end

-- Backlog entries by flow, read once per call.
local function owed_by_flow(c, r)
	if not r.owed then
		r.owed = {}
		local flat = redis.call('HGETALL', c.p .. 'B')
		for i = 1, #flat, 2 do
			local ok, flow = pcall(function()
				return flat[i] ~= 'n' and cmsgpack.unpack(flat[i + 1])[3]
			end)
			if ok and flow then
				r.owed[flow] = (r.owed[flow] or 0) + 1
			end
		end
	end
	return r.owed
end

-- The edges of a flow: in the lists of both ends.
local function rebuild_edges(c, r, fl)
	local call, p = redis.call, c.p
	local ids = call('HKEYS', p .. 'E' .. fl.id)
	for i = 1, #ids do
		local e = F.edge(c, fl.id, ids[i])
		if not e then
			r.corrupt[#r.corrupt + 1] = '\2' .. ids[i]
		else
			local added = F.sure('ZADD', p .. '>' .. e.up, 'CH', e.seq, e.id .. e.down)
				+ F.sure('ZADD', p .. '<' .. e.down, 'CH', e.seq, e.id .. e.up)
			for _ = 1, added do
				F.repaired(r, 4, 1)
			end
		end
	end
end

-- What a flow implies: its lists, counts, timer and walks. One that is gone and has members left implies its purge.
-- Says whether its record can be decoded.
function F.rebuild_flow(c, r, id)
	local call, p = redis.call, c.p
	local fl, why = F.look_flow(c, id)
	if why then
		return false
	end
	if not fl then
		F.rebuild_owed(c, r, 4, id)
		return true
	end
	rebuild_edges(c, r, fl)
	local members = call('ZRANGEBYLEX', p .. 'M' .. id, '-', '+')
	local counts, readable, want = {}, true, {}
	for i = 1, #members do
		local x, unread = F.look(c, members[i])
		if unread ~= 'corrupt' and not (x and x.flow == id) then
			-- No member: what a crash or damage left.
			F.sure('ZREM', p .. 'M' .. id, members[i])
			F.repaired(r, 4, 3)
		elseif x then
			local state = F.public(x)
			counts[state] = (counts[state] or 0) + 1
			want[2] = want[2] or F.covered(c, x)
			want[3] = want[3] or (fl.sealed and not fl.frozen and x.s ~= 9 and x.held == 1)
		else
			readable = false
		end
	end
	-- Of a member that cannot be read nobody knows where it counts.
	if readable then
		local wrong = false
		for state = 1, 11 do
			local n = (counts[state] or 0) - fl.counts[state]
			if n ~= 0 then
				count(c, fl, state, n)
				wrong = true
			end
		end
		local deferred = owed_by_flow(c, r)[id] or 0
		if fl.deferred ~= deferred then
			set(c, fl, 'deferred', deferred)
			wrong = true
		end
		if wrong then
			F.repaired(r, 5, 2)
		end
	end
	if fl.purge then
		F.rebuild_timer(c, r, string.char(9, 1) .. id, fl.purge)
	end
	local open = call('ZRANGEBYLEX', p .. 'O' .. id, '-', '+')
	for i = 1, #open do
		local x, unread = F.look(c, open[i])
		if unread ~= 'corrupt' and not (x and x.flow == id and x.s ~= 9) then
			F.sure('ZREM', p .. 'O' .. id, open[i])
			F.repaired(r, 4, 3)
		end
	end
	for kind = 2, 3 do
		if want[kind] then
			F.rebuild_owed(c, r, kind, id, id)
		end
	end
	return true
end

-- Whether a flow's timer stands where its record says.
function F.flow_timer_stands(c, id, due)
	local fl, why = F.look_flow(c, id)
	return why == 'corrupt' or (fl ~= nil and fl.purge == due)
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
