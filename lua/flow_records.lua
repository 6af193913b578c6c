-- Domain flow: flow.md, sections 2 and 3: a flow's record as a table, its counts, and what membership means to an
-- execution. What is asked of flows is in flow.lua, edges are in flow_edges.lua, what an ending means for others in
-- cascade.lua. A flow's key holds the flat form of the contract's decoder, tags as `tag:` fields.

local F = F
local DAY = 86400000

local WIDTH = { flow_only = 1, cancel_pending = 2, cancel_all = 3 }
F.CANCELLATION_WIDTH = WIDTH

-- A whole number of a stored form, absent as `none`; nil if it is none.
local function number(h, name, none)
	local text = h[name]
	if not text then
		return none
	end
	return F.whole(text)
end

-- The flow of a stored form; nil if it cannot be decoded.
function F.decode_flow(id, h)
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
			fl = F.decode_flow(id, F.map(flat))
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
F.settle_flow = settle

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
F.count_member = count

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
F.enter_flow = enter

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
function F.flush_flows(call, c)
	local p = c.p
	if c.edges then
		for _, e in pairs(c.edges) do
			if e and e.dirty then
				call('HSET', p .. 'E' .. e.flow, e.id, F.pack_edge(e))
			end
		end
	end
	for id, fl in pairs(c.flows) do
		if fl and fl.gone then
			call('UNLINK', p .. 'f' .. id)
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
				call('HSET', p .. 'f' .. id, unpack(hset))
			end
			if #hdel > 0 then
				call('HDEL', p .. 'f' .. id, unpack(hdel))
			end
		end
	end
	if c.open then
		for id, o in pairs(c.open) do
			if o[2] then
				call('ZADD', p .. 'O' .. o[1], 0, id)
			else
				call('ZREM', p .. 'O' .. o[1], id)
			end
		end
	end
end

-- What the tables say once that is written.
function F.flushed_flows(c)
	if c.edges then
		for _, e in pairs(c.edges) do
			if e then
				e.dirty = nil
			end
		end
	end
	for id, fl in pairs(c.flows) do
		if fl and fl.gone then
			c.flows[id] = false
		elseif fl and fl.dirty then
			fl.set, fl.dirty = {}, nil
		end
	end
end
