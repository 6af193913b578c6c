-- rebuild_indexes: what flows, their members and edges imply (rebuild.lua walks them).

local F = F

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
			-- What cannot be written has no answer.
			if F.sure('ZADD', p .. '>' .. e.up, 'CH', e.seq, e.id .. e.down) == 1 then
				F.repaired(r, 4, 1)
			end
			if F.sure('ZADD', p .. '<' .. e.down, 'CH', e.seq, e.id .. e.up) == 1 then
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
				F.count_member(c, fl, state, n)
				wrong = true
			end
		end
		local deferred = owed_by_flow(c, r)[id] or 0
		if fl.deferred ~= deferred then
			F.set_flow(c, fl, 'deferred', deferred)
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
