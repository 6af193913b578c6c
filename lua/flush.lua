-- The unit of work: what a call marks as changed, and how all of it is written.

local F = F
local NONE = 9007199254740992

local public, queued, dues, block_dues = F.public, F.queued, F.dues, F.block_dues

-- Says that x is written; `now` is its last mutation.
function F.touch(c, x)
	x.touched = c.now
	F.put(c, x)
end

-- Marks x for writing.
function F.put(c, x)
	if not x.dirty then
		x.dirty = true
		c.n = c.n + 1
		c.dirty[c.n] = x
	end
end

-- Sets the vector; a change voids the grant.
function F.vector(c, x, s, a, b)
	if x.s ~= s or x.a ~= a or x.b ~= b then
		local was = x.flow and public(x)
		x.s, x.a, x.b = s, a, b
		x.moved = c.now
		x.ext.gr = nil
		if was and was ~= public(x) then
			F.member_moved(c, x, was, public(x))
		end
	end
end

-- Arms a timer that no execution record implies by itself (a waitpoint, a flow), or disarms it with due = false.
-- `rest` is what follows the kind: '\0' .. execution id .. waitpoint id, or '\1' .. flow id.
function F.timer(c, kind, rest, due)
	local t = c.timers
	if not t then
		t = {}
		c.timers = t
	end
	t[string.char(kind) .. rest] = due
end

local function keep(c, list, command)
	local w = c[list]
	if not w then
		w = {}
		c[list] = w
	end
	w[#w + 1] = command
end

-- A write that goes before the records (results, attempts, edges), in order.
function F.write(c, ...)
	keep(c, 'writes', { ... })
end

-- A write that goes after everything else, in order.
function F.late(c, ...)
	keep(c, 'lates', { ... })
end

local function push(t, key, v, w)
	local l = t[key]
	if not l then
		t[key] = { v, w }
		return
	end
	local n = #l
	l[n + 1] = v
	l[n + 2] = w
end

local function append(t, key, v)
	local l = t[key]
	if l then
		l[#l + 1] = v
	else
		t[key] = { v }
	end
end

local function arm(zadd, zrem, key, member, due)
	if due == NONE then
		append(zrem, key, member)
	else
		push(zadd, key, due, member)
	end
end

-- Keeps argument lists far below the stack's limit.
local function each(call, verb, lists)
	for key, l in pairs(lists) do
		local n = #l
		if n <= 512 then
			call(verb, key, unpack(l))
		else
			for i = 1, n, 512 do
				call(verb, key, unpack(l, i, math.min(i + 511, n)))
			end
		end
	end
end

local function add(sums, key, field, n)
	local f = sums[key]
	if not f then
		f = {}
		sums[key] = f
	end
	f[field] = (f[field] or 0) + n
end

-- The channel of hints for workers that wait, without the lane at its end.
function F.channel(p)
	return string.match(p, '^[^{]*') .. 'w:'
end

local function run_kept(call, w)
	if w then
		for i = 1, #w do
			call(unpack(w[i]))
		end
	end
end

-- The last execution that requires a set has ended, by count. A count is no record: while something waits for the
-- set, it stays registered, or no claim would look there.
function F.unregister(call, p, lane, set)
	local rest = lane .. '\n' .. set
	if call('EXISTS', p .. 'r' .. rest, p .. 'g' .. rest) == 0 then
		call('HDEL', p .. 'l' .. lane, set)
	else
		call('HSET', p .. 'l' .. lane, set, 1)
	end
end

-- Adds up the counters: what has been added is set to 0, so that nothing is added twice.
local last_key, last_field, last_n, last_sum
local function add_up(call, p, sums)
	for key, fields in pairs(sums) do
		for field, n in pairs(fields) do
			local sum
			if n ~= 0 then
				sum = call('HINCRBY', key, field, n)
				fields[field] = 0
				last_key, last_field, last_n, last_sum = key, field, n, sum
			elseif last_key == key and last_field == field then
				-- Run again: what goes with the sum may not have been done.
				n, sum = last_n, last_sum
			end
			if sum and string.byte(key, #p + 1) == 108 then
				if sum < 1 then
					F.unregister(call, p, string.sub(key, #p + 2), field)
				end
			elseif sum == 0 then
				call('HDEL', key, field)
			elseif sum == n then
				-- The first transition of its kind in this lane: the lane may be new.
				call('SADD', p .. 'N', string.sub(key, #p + 2))
			end
		end
	end
end

-- Writes everything, as F.surely wants it.
local function write_all(call, c)
	local p = c.p
	if c.tail then
		F.flush_added(call, c)
	end
	run_kept(call, c.writes)
	if c.flows then
		F.flush_flows(call, c)
	end
	local zadd, zrem, hset, hdel = {}, {}, {}, {}
	local sums, counted = c.sums, c.sums
	if not counted then
		sums = {}
	end
	local tkey, lkey = p .. 't', p .. 'L'
	local char = string.char
	local awake, wanted
	for i = 1, c.n do
		local x = c.dirty[i]
		local id = x.id
		-- Ready queue.
		local q = not x.gone and queued(x)
		if q or x.wq then
			local key, member = F.place(c, x)
			if q then
				if not x.wq or x.prio ~= x.wprio then
					push(zadd, key, -x.prio, member)
				end
				if not x.wq then
					awake = awake or {}
					awake[F.lane(x)] = true
					if not x.new and string.byte(x.route, -1) ~= 10 then
						-- Where it waits, claims look, whatever became of the count.
						wanted = wanted or {}
						wanted[x.route] = true
					end
				end
			else
				append(zrem, key, member)
			end
		end
		-- Timers.
		local d1, d2, d3, d4, d5, d7, d9 = dues(x)
		if x.w1 ~= d1 then
			arm(zadd, zrem, tkey, char(1, 0) .. id, d1)
		end
		if x.w2 ~= d2 then
			arm(zadd, zrem, tkey, char(2, 0) .. id, d2)
		end
		if x.w3 ~= d3 then
			arm(zadd, zrem, tkey, char(3, 0) .. id, d3)
		end
		if x.w4 ~= d4 then
			arm(zadd, zrem, tkey, char(4, 0) .. id, d4)
		end
		if x.w5 ~= d5 then
			arm(zadd, zrem, tkey, char(5, 0) .. id, d5)
		end
		if x.w7 ~= d7 then
			arm(zadd, zrem, tkey, char(7, 0) .. id, d7)
		end
		if x.w9 ~= d9 then
			arm(zadd, zrem, tkey, char(9, 0) .. id, d9)
		end
		local d8, w8 = block_dues(x), x.w8
		if d8 or w8 then
			for reason = 1, 5 do
				local due = d8 and d8[reason]
				if due ~= (w8 and w8[reason]) then
					F.timer(c, 8, '\0' .. id .. char(reason), due or false)
				end
			end
		end
		-- Lease index.
		local lease = x.s == 5 and not x.gone and x.lid
		if lease ~= x.wl then
			if lease then
				push(hset, lkey, lease, id)
			end
			if x.wl then
				append(hdel, lkey, x.wl)
			end
		end
		-- Counts.
		local now = x.gone and 0 or public(x)
		local was = x.wp
		if now ~= was and not counted then
			add(sums, p .. 'n' .. F.lane(x), was * 16 + now, 1)
			local open, wasopen = now > 0 and now < 7, was > 0 and was < 7
			if open ~= wasopen and string.byte(x.route, -1) ~= 10 then
				local lane, set = F.split(x.route)
				add(sums, p .. 'l' .. lane, set, open and 1 or -1)
			end
		end
	end
	if c.timers then
		for m, due in pairs(c.timers) do
			arm(zadd, zrem, tkey, m, due or NONE)
		end
	end
	c.sums = sums
	each(call, 'ZADD', zadd)
	each(call, 'HSET', hset)
	for i = 1, c.n do
		local x = c.dirty[i]
		if not x.gone then
			if x.new then
				-- Walks start from there: a record that they do not find would be lost to them.
				call('ZADD', p .. 'x', 0, x.id)
			end
			call('SET', p .. 'e' .. x.id, F.encode(x))
		end
	end
	each(call, 'ZREM', zrem)
	each(call, 'HDEL', hdel)
	add_up(call, p, sums)
	for route in pairs(wanted or {}) do
		local lane, set = F.split(route)
		call('HSETNX', p .. 'l' .. lane, set, 1)
	end
	if c.B then
		F.flush_backlog(call, c)
	end
	run_kept(call, c.lates)
	if awake then
		-- A hint for workers that wait: something became ready in these lanes.
		local channel = F.channel(p)
		for lane in pairs(awake) do
			call('PUBLISH', channel .. lane, '')
		end
	end
end

-- Writes everything: first what only adds (results, index entries), then the records, then what removes.
function F.flush(c)
	if c.n == 0 and not (c.writes or c.lates or c.timers or c.tail or c.flows or c.B or c.open) then
		return
	end
	F.surely(write_all, c)
	for i = 1, c.n do
		local x = c.dirty[i]
		if not x.gone then
			x.new = nil
			F.remember(x)
		end
		x.dirty = nil
		c.dirty[i] = nil
	end
	c.n, last_key = 0, nil
	c.writes, c.lates, c.timers, c.sums, c.tail, c.open = nil, nil, nil, nil, nil, nil
	if c.flows then
		F.flushed_flows(c)
	end
	if c.B then
		F.flushed_backlog(c)
	end
end
