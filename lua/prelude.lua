-- The call, the execution record and the unit of work.
--
-- One chunk: every file of this folder is joined behind this one, each in its own block. While the library loads only
-- `redis` exists, so nothing here touches `string`, `struct` or `cmsgpack` outside a function.
--
-- A call reads, computes on tables, and writes at its end, in `F.flush`: a refusal or an error before that leaves
-- nothing behind. Calls that do several things write after each. See README.md of this folder for the keys.

local F = {}

-- 2^53: an absent instant, duration or instant-like number. No legal value reaches it.
local NONE = 9007199254740992

-- The version of the execution record; the first byte of its key's value. 0 is the tombstone of a purge.
local RECORD = 1

-- The record's header, see lua/README.md for the fields in order. What claims and completions of plain executions only
-- read comes first, then what a completion leaves, then what both write: they copy the rest as bytes (plain.lua).
local HEADER = '>BBBBI2I4I4BI7I2I4I2I4I7I7I4I7I7' .. 'I2I4I7c16I7c16BI4I7BI7I7' .. 'I2I7I7I7I7BBBI7I7I7BBBI7I7I7'
	.. 'Bi4I7I4I4I4I4I4I7I7I7I4I4c32'
local HEADER_BYTES = 316
local MEMBER = '>c16BI4I4I4I4'
local MEMBER_BYTES = 33

-- Names of the numbers in records, spelled as in Rust.
F.PHASE = { 'runnable', 'runnable', 'runnable', 'runnable', 'active', 'active', 'active', 'suspended', 'terminal' }
F.OUTCOME = { 'success', 'failed', 'cancelled', 'expired', 'skipped' }
F.PUBLIC = {
	'waiting', 'delayed', 'rate_limited', 'waiting_children', 'active', 'suspended', 'completed', 'failed', 'cancelled',
	'expired', 'skipped',
}
-- The highest label of each state.
local LABELS = { 0, 3, 0, 5, 0, 0, 0, 7, 5 }
local PUBLIC_OF = { 1, 2, 4, 1, 5, 5, 5, 6 }

-- The clock of the store, in milliseconds.
function F.time()
	local t = redis.call('TIME')
	local us = tonumber(t[2])
	return t[1] * 1000 + (us - us % 1000) / 1000
end

-- Whether the call has written, and the first error of a write behind others.
local wrote, failed = false, nil

-- What every write calls, filled at the first call: a look-up of a global costs.
local pcall_, type_

-- A write. The first of a call may fail, which ends the call: nothing has happened. Behind it the server refuses a
-- command only for what stands at its key; that must not leave a call half done. So a failed write is tried again, and
-- if it fails again the others are made without it, and `F.settle` tells.
function F.sure(...)
	local r = pcall_(...)
	if type_(r) ~= 'table' or not r.err then
		wrote = true
		return r
	end
	if not wrote then
		error(r)
	end
	r = pcall_(...)
	if type_(r) == 'table' and r.err then
		failed = failed or r
		return nil
	end
	return r
end

-- Runs f(call, ...), which only writes, with redis.call; where a command fails it is run again from its start with
-- F.sure. So f must come to the same when its commands are repeated.
function F.surely(f, ...)
	if not pcall(f, redis.call, ...) then
		f(F.sure, ...)
	end
	wrote = true
end

-- Ends the call with the error of a write that could not be made, if there was one.
function F.settle()
	if failed then
		local e = failed
		failed = nil
		error(e)
	end
end

-- Any other function that writes: f(keys, args).
function F.settled(f)
	return function(keys, args)
		local answer = f(keys, args)
		F.settle()
		return answer
	end
end

-- Opens a call. keys[1] is the prefix of the partition's keys; args[1] a packed array, whose first element is the
-- manual clock or false. Returns the call and the array.
function F.open(keys, args)
	local a = cmsgpack.unpack(args[1])
	return F.begin(keys[1], a[1] or F.time()), a
end

-- A call on the partition whose keys begin with p.
function F.begin(p, now)
	wrote, failed = false, nil
	pcall_, type_ = pcall_ or redis.pcall, type_ or type
	return { p = p, now = now, xs = {}, dirty = {}, n = 0 }
end

-- The same of a call that needs no table; now is NONE without a manual clock. Returns the instant.
function F.clock(now)
	wrote, failed = false, nil
	pcall_, type_ = pcall_ or redis.pcall, type_ or type
	return now == NONE and F.time() or now
end

-- Bytes as hexadecimal digits.
function F.hex(bytes)
	return (string.gsub(bytes, '.', function(b)
		return string.format('%02x', string.byte(b))
	end))
end

-- The raw bytes of a uuid's text.
function F.uuid_raw(text)
	return (string.gsub(string.gsub(text, '%-', ''), '%x%x', function(h)
		return string.char(tonumber(h, 16))
	end))
end

-- The text of a raw uuid.
function F.uuid_text(raw)
	return string.format(
		'%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x', string.byte(raw, 1, 16)
	)
end

-- Whether text `a` stands before `b`, by bytes: Lua's own `<` compares as the server's locale does.
function F.below(a, b)
	local byte = string.byte
	for i = 1, math.min(#a, #b) do
		local m, n = byte(a, i), byte(b, i)
		if m ~= n then
			return m < n
		end
	end
	return #a < #b
end

-- The map of a list of names and values.
function F.map(flat)
	local h = {}
	for i = 1, #flat, 2 do
		h[flat[i]] = flat[i + 1]
	end
	return h
end

-- Ends the call as corruption. Who works through many things (sweeps, claims, walks) has written those before it.
function F.corrupt(what, id)
	error({ err = 'FFCORRUPT ' .. what .. ' ' .. F.hex(id or '') })
end

-- The whole number of a text, at most 2^53 - 1; nil if it is none.
function F.whole(text)
	if #text > 16 or not string.match(text, '^%d+$') then
		return nil
	end
	local n = tonumber(text)
	return n < NONE and n or nil
end

-- Runs what only reads and computes; false if it met what cannot be decoded, else true and two answers. What else the
-- server refuses says nothing about a record, and ends the call.
function F.try(f, ...)
	local ok, a, b = pcall(f, ...)
	if not ok then
		-- The servers' `pcall` makes a text of an error that is a table. One of Lua's own begins with a place.
		local text = type(a) == 'table' and a.err or a
		local word = string.match(text, '^-?(%u+) ')
		if word and word ~= 'FFCORRUPT' and word ~= 'WRONGTYPE' then
			error({ err = text })
		end
	end
	return ok, a, b
end

-- The same, with the answers alone. Where f met what cannot be decoded, what it did to the call's tables is undone, and
-- the answer is nil. Nothing that others did may wait to be written.
function F.step(c, f, ...)
	local ok, a, b = F.try(f, ...)
	if ok then
		return a, b
	end
	c.xs, c.dirty, c.n = {}, {}, 0
	c.writes, c.lates, c.timers, c.flows, c.edges = nil, nil, nil, nil, nil
	c.open, c.W, c.B, c.tail = nil, nil, nil, nil
	return nil
end

-- The execution, if it exists and all that its end would read can be decoded; else nil, and why.
function F.sound(c, id)
	local x, why = F.look(c, id)
	if not x then
		return nil, why
	end
	if x.sound == nil then
		x.sound = F.try(F.read_through, c, x)
	end
	if not x.sound then
		return nil, 'corrupt'
	end
	return x
end

-- Reads what an end or a gate of x reads.
function F.read_through(c, x)
	F.split(x.route)
	F.frozen(x)
	if x.flow then
		F.flow(c, x.flow)
	end
	if x.wps > 0 or x.ext.su then
		F.read_suspension(c, x)
	end
end

-- x + ms, saturating at the greatest instant.
function F.after(at, ms)
	local due = at + ms
	if due > 9007199254740991 then
		return 9007199254740991
	end
	return due
end

-- An optional number of a record as an answer carries it.
function F.opt(n)
	if n == NONE then
		return false
	end
	return n
end

-- The execution of a stored record; nil if it cannot be decoded.
local function decode(id, s)
	local unpack_ = struct.unpack
	if #s < HEADER_BYTES or string.byte(s) ~= RECORD then
		return nil
	end
	local _, s_, a, b, m, e, wps, nbk, nb, r, t, z, o, deadline, atimeout, replays, retention, keyend, h, attempts,
		started, lid, epoch, aid, atype, arun, astarted, pkind, paused, resumed, l, moved, touched, completed, purge, cause,
		by, astate, adue, aleft, aended, acause, aby, lkind, lacq, lexp, lren, adm, prio, created, retries, reclaims,
		tretries, treclaims, signals, sigbytes, sigseq, stimeout, maxretries, maxreclaims, print, at = unpack_(HEADER, s)
	if HEADER_BYTES + r + h + m + t + z + o + l + e ~= #s or s_ < 1 or s_ > 9 or a > 4 or b > LABELS[s_]
		or (attempts == 0 and s_ > 4 and s_ < 9) then
		return nil
	end
	local sub = string.sub
	local route = sub(s, at, at + r - 1)
	if not string.find(route, '\n', 1, true) then
		return nil
	end
	at = at + r
	local flow, held, inc, unres, sat, imp, name
	if m > 0 then
		if m < MEMBER_BYTES then
			return nil
		end
		flow, held, inc, unres, sat, imp = unpack_(MEMBER, s, at)
		name = sub(s, at + MEMBER_BYTES, at + m - 1)
		at = at + m
	end
	local ext
	if e > 0 then
		local ok
		ok, ext = pcall(cmsgpack.unpack, sub(s, -e))
		if not ok or type(ext) ~= 'table' then
			return nil
		end
	else
		ext = {}
	end
	-- One constructor: a field that is set later costs as much again, and so does a table that grows.
	return {
		id = id, s = s_, a = a, b = b, wps = wps, nbk = nbk, nb = nb, deadline = deadline, atimeout = atimeout,
		replays = replays, retention = retention, keyend = keyend, attempts = attempts, started = started, lid = lid,
		epoch = epoch, aid = aid, atype = atype, arun = arun, astarted = astarted, pkind = pkind, paused = paused,
		resumed = resumed, moved = moved, touched = touched, completed = completed, purge = purge, cause = cause,
		by = by, astate = astate, adue = adue, aleft = aleft, aended = aended, acause = acause, aby = aby,
		lkind = lkind, lacq = lacq, lexp = lexp, lren = lren, adm = adm, prio = prio, created = created,
		retries = retries, reclaims = reclaims, tretries = tretries, treclaims = treclaims, signals = signals,
		sigbytes = sigbytes, sigseq = sigseq, stimeout = stimeout, maxretries = maxretries, maxreclaims = maxreclaims,
		print = print,
		route = route, tags = sub(s, at, at + t - 1), frozen = sub(s, at + t, at + t + z - 1),
		core = sub(s, at + t + z, at + t + z + o - 1), holder = sub(s, at + t + z + o, at + t + z + o + h - 1),
		last = sub(s, at + t + z + o + h, at + t + z + o + h + l - 1), ext = ext, flow = flow, held = held, inc = inc,
		unres = unres, sat = sat, imp = imp, name = name, wq = false, wl = false, wp = 0, wprio = 0, w1 = 0, w2 = 0, w3 = 0,
		w4 = 0, w5 = 0, w7 = 0, w9 = 0, raw = s,
	}
end

-- The stored form of an execution.
function F.encode(x)
	local member, ext = '', ''
	if x.flow then
		member = struct.pack(MEMBER, x.flow, x.held, x.inc, x.unres, x.sat, x.imp) .. x.name
	end
	if next(x.ext) then
		ext = cmsgpack.pack(x.ext)
	end
	return struct.pack(
		HEADER, RECORD, x.s, x.a, x.b, #member, #ext, x.wps, x.nbk, x.nb, #x.route, #x.tags, #x.frozen, #x.core, x.deadline,
		x.atimeout, x.replays, x.retention, x.keyend, #x.holder, x.attempts, x.started, x.lid, x.epoch, x.aid, x.atype,
		x.arun, x.astarted, x.pkind, x.paused, x.resumed, #x.last, x.moved, x.touched, x.completed, x.purge,
		x.cause, x.by, x.astate, x.adue, x.aleft, x.aended, x.acause, x.aby, x.lkind, x.lacq, x.lexp, x.lren, x.adm,
		x.prio, x.created, x.retries, x.reclaims, x.tretries, x.treclaims, x.signals, x.sigbytes, x.sigseq, x.stimeout,
		x.maxretries, x.maxreclaims, x.print
	) .. x.route .. member .. x.tags .. x.frozen .. x.core .. x.holder .. x.last .. ext
end

-- The execution if it exists: nil if not, or if it is being purged (then also 'purging'); nil, 'corrupt' if its record
-- cannot be decoded. What it implies now is remembered, so that `flush` can tell what has changed. `raw`, if given, is
-- what its key holds.
function F.look(c, id, raw)
	local x = c.xs[id]
	if x then
		if x.gone then
			return nil, 'purging'
		end
		return x
	end
	local s = raw or redis.call('GET', c.p .. 'e' .. id)
	if not s then
		return nil
	end
	if string.byte(s) == 0 then
		return nil, 'purging'
	end
	x = decode(id, s)
	if not x then
		return nil, 'corrupt'
	end
	x.raw = s
	F.remember(x)
	c.xs[id] = x
	return x
end

-- The execution if it exists, else nil. A record that cannot be decoded ends the call.
function F.find(c, id, raw)
	local x, why = F.look(c, id, raw)
	if why == 'corrupt' then
		F.corrupt('execution', id)
	end
	return x, why
end

-- A function on the execution that its first argument names: f(c, a, x, args).
function F.on_execution(f)
	return function(keys, args)
		local c, a = F.open(keys, args)
		local x = F.find(c, a[2])
		if not x then
			return { '!', 'execution_not_found' }
		end
		local answer = f(c, a, x, args)
		F.settle()
		return answer
	end
end

-- A function on the flow that its first argument names: f(c, a, fl).
function F.on_flow(f)
	return function(keys, args)
		local c, a = F.open(keys, args)
		local fl = F.flow(c, a[2])
		if not fl then
			return { '!', 'flow_not_found' }
		end
		local answer = f(c, a, fl)
		F.settle()
		return answer
	end
end

-- Index of the public state in F.PUBLIC.
local function public(x)
	local s = x.s
	if s == 9 then
		return 6 + x.b
	end
	if s == 4 and (x.b == 3 or x.b == 4) then
		return 3
	end
	return PUBLIC_OF[s]
end
F.public = public

-- Whether it is in its ready queue: READY, LOST or REVOKED without grant, block or not_before.
local function queued(x)
	local s = x.s
	return (s == 1 or s == 6 or s == 7) and x.nb == NONE and not x.ext.bl and not x.ext.gr
end
F.queued = queued

-- The key of its ready queue and its member there.
function F.place(c, x)
	return c.p .. (x.adm == 1 and 'g' or 'r') .. x.route, struct.pack('>I7', x.created) .. x.id
end

-- When its timers are due, NONE where none is armed: lease, attempt timeout, deadline, delay, suspension timeout,
-- grant, retention.
local function dues(x)
	if x.gone then
		return NONE, NONE, NONE, NONE, NONE, NONE, NONE
	end
	local gr = x.ext.gr
	return x.s == 5 and x.lexp or NONE, x.adue, x.s ~= 9 and x.deadline or NONE, x.nb, x.stimeout, gr and gr[3] or NONE,
		x.purge
end
F.dues = dues

-- When its blocks end by themselves: reason -> instant; nil if it has no block.
local function block_dues(x)
	local bl = not x.gone and x.ext.bl
	if not bl then
		return nil
	end
	local due = {}
	for reason, block in pairs(bl) do
		due[reason] = block[2] or nil
	end
	return due
end
F.block_dues = block_dues

-- Remembers what the record implies.
function F.remember(x)
	x.wq = queued(x)
	x.wprio = x.prio
	x.wp = public(x)
	x.wl = x.s == 5 and x.lid
	x.w1, x.w2, x.w3, x.w4, x.w5, x.w7, x.w9 = dues(x)
	x.w8 = block_dues(x)
end

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

-- The lane of a route: what stands before its newline.
function F.lane_of(route)
	return string.sub(route, 1, string.find(route, '\n', 1, true) - 1)
end

-- The lane of an execution.
function F.lane(x)
	return F.lane_of(x.route)
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
			call('SET', p .. 'e' .. x.id, F.encode(x))
			if x.new then
				call('ZADD', p .. 'x', 0, x.id)
			end
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

-- The summary of an answer: vector and number of attempts.
function F.summary(x)
	return struct.pack('>BBBI4', x.s, x.a, x.b, x.attempts)
end

-- Splits a route into lane and comma-joined set.
function F.split(route)
	local at = string.find(route, '\n', 1, true)
	return string.sub(route, 1, at - 1), string.sub(route, at + 1)
end
