-- The execution record: how it is stored, read, and what it implies.

local F = F

-- 2^53: an absent instant, duration or instant-like number (prelude.lua).
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

-- The lane of a route: what stands before its newline.
function F.lane_of(route)
	return string.sub(route, 1, string.find(route, '\n', 1, true) - 1)
end

-- The lane of an execution.
function F.lane(x)
	return F.lane_of(x.route)
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
