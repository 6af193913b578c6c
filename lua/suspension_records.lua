-- Domain suspension: suspension.md, section 3: the records of a suspension, its waitpoints and signals, and what closes
-- them. What is asked of them is in suspension.lua and signal.lua.
--
-- Keys under an execution: `s<id>` the present or last suspension, a hash as the contract's decoder reads it;
-- `sw<id>` waitpoint id -> packed waitpoint; `so<id>` the ids of those that are not closed; `sg<id>` seq -> packed
-- signal, `sp<id>` seq -> payload (unless empty), of the suspension and of pending waitpoints; `sm<id>` the seqs of its
-- matched signals, in order; `sd<id>` signal id -> packed dedup entry; `sk<id>` waitpoint, source and idempotency key
-- -> signal id.

local F = F
local NONE = 9007199254740992

local PENDING, CLOSED = 1, 3
local STATE = { 'pending', 'active', 'closed' }
F.WAITPOINT_STATE = STATE

-- Places in a packed waitpoint: 1, the attempt's index (2), sources as a JSON text, created_at (4), state, expires_at
-- (6), suspension id, activated_at (8), closed_at, close_reason (10), close_detail, number of signals (12).
local STATUS, EXPIRES, SUSPENSION, SHUT, REASON, DETAIL, COUNT = 5, 6, 7, 9, 10, 11, 12

-- Every key of a suspension's records under an execution.
local KEYS = { 's', 'sw', 'so', 'sg', 'sp', 'sm', 'sd', 'sk' }

-- How many subordinate records of x this domain holds. A key is none of its own: it leads to a dedup entry.
function F.suspension_records(c, x)
	if x.wps == 0 and not x.ext.su then
		return 0
	end
	local call, p, id = redis.call, c.p, x.id
	return call('HLEN', p .. 'sw' .. id) + call('HLEN', p .. 'sg' .. id) + call('HLEN', p .. 'sd' .. id)
		+ call('EXISTS', p .. 's' .. id)
end

function F.unlink_suspension(c, id)
	for i = 1, #KEYS do
		F.sure('UNLINK', c.p .. KEYS[i] .. id)
	end
end

local function unpacked(what, packed, n, id)
	local ok, t = pcall(cmsgpack.unpack, packed)
	if not ok or type(t) ~= 'table' or t[1] ~= 1 or #t ~= n then
		F.corrupt(what, id)
	end
	return t
end
F.unpacked = unpacked

-- The present or last suspension as a map of texts, or nil.
function F.suspension(c, x)
	if x.sus == nil then
		x.sus = false
		if x.ext.su then
			local flat = redis.call('HGETALL', c.p .. 's' .. x.id)
			local s = F.map(flat)
			if s.v ~= '1.0' or not s.condition or not s.resume_policy or #(s.suspension_id or '') ~= 36
				or (s.timeout_at and not F.whole(s.timeout_at)) then
				F.corrupt('suspension', x.id)
			end
			x.sus = s
		end
	end
	return x.sus or nil
end

-- The suspension if it is open.
function F.open_suspension(c, x)
	local s = F.suspension(c, x)
	if s and not s.closed_at then
		return s
	end
	return nil
end

-- The waitpoints of a suspension, raw, in binding order.
local function bound_ids(s)
	local out = {}
	for text in string.gmatch(s.waitpoint_ids or '', '[^,]+') do
		out[#out + 1] = F.uuid_raw(text)
	end
	return out
end
F.bound_ids = bound_ids

local function timed_out(c, s)
	return s.timeout_at and tonumber(s.timeout_at) <= c.now
end
F.timed_out = timed_out

-- A waitpoint of x, or nil.
function F.waitpoint(c, x, id)
	if x.wps == 0 then
		return nil
	end
	local all = x.waitpoints
	if not all then
		all = {}
		x.waitpoints = all
	end
	local w = all[id]
	if not w then
		local packed = redis.call('HGET', c.p .. 'sw' .. x.id, id)
		if not packed then
			return nil
		end
		w = unpacked('waitpoint', packed, COUNT, id)
		all[id] = w
	end
	return w
end

function F.put_waitpoint(c, x, id, w)
	x.waitpoints = x.waitpoints or {}
	x.waitpoints[id] = w
	F.write(c, 'HSET', c.p .. 'sw' .. x.id, id, cmsgpack.pack(w))
end

-- Why a waitpoint takes no signals now: nil while it is open. What is due counts as closed before any timer fires.
function F.closed_as(c, x, w)
	if w[STATUS] == PENDING then
		return w[EXPIRES] <= c.now and 'expired' or nil
	elseif w[STATUS] == CLOSED then
		return w[REASON]
	end
	local s = F.open_suspension(c, x)
	if not s or s.suspension_id ~= F.uuid_text(w[SUSPENSION]) or timed_out(c, s) then
		-- Of a damaged one nobody is let in.
		return 'timed_out'
	end
	return nil
end

-- The state of a waitpoint as of the clock.
local function state_at(c, x, w)
	return F.closed_as(c, x, w) and CLOSED or w[STATUS]
end
F.state_at = state_at

-- Ids of the waitpoints that are stored as pending or active, ascending. Those closed in this call are among them.
local function open_ids(c, x)
	if x.wps == 0 then
		return {}
	end
	local ids = redis.call('SMEMBERS', c.p .. 'so' .. x.id)
	table.sort(ids, F.below)
	return ids
end
F.open_ids = open_ids

-- Reads the suspension and the waitpoints that are not closed; what cannot be decoded ends the call.
function F.read_suspension(c, x)
	local s = F.suspension(c, x)
	if s and s.timeout_behavior then
		cjson.decode(s.timeout_behavior)
	end
	local ids = open_ids(c, x)
	for i = 1, #ids do
		F.waitpoint(c, x, ids[i])
	end
end

-- Of the open pending waitpoints their number and the signals buffered on them.
function F.pending(c, x)
	local n, buffered = 0, 0
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and w[STATUS] == PENDING and not F.closed_as(c, x, w) then
			n = n + 1
			buffered = buffered + w[COUNT]
		end
	end
	return n, buffered
end

-- Closes a waitpoint; a pending one that is already due closes as expired, whatever closes it.
local function close_waitpoint(c, x, id, reason, detail)
	local w = F.waitpoint(c, x, id)
	if not w or w[STATUS] == CLOSED then
		return
	end
	if w[STATUS] == PENDING then
		F.timer(c, 6, '\0' .. x.id .. id, false)
		if w[EXPIRES] <= c.now then
			reason, detail = 'expired', nil
		end
	end
	w[STATUS], w[SHUT], w[REASON], w[DETAIL] = CLOSED, c.now, reason, detail or false
	F.put_waitpoint(c, x, id, w)
	F.late(c, 'SREM', c.p .. 'so' .. x.id, id)
end
F.close_waitpoint = close_waitpoint

-- Closes the waitpoints of x that stand as 'pending', 'active' or either ('open').
function F.close_waitpoints(c, x, which, reason)
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and (which == 'open' or STATE[w[STATUS]] == which) then
			close_waitpoint(c, x, ids[i], reason)
		end
	end
end

-- Writes fields of the suspension; false removes one.
local function amend(c, x, fields)
	local s, key = x.sus, c.p .. 's' .. x.id
	for field, text in pairs(fields) do
		if text then
			s[field] = text
			F.write(c, 'HSET', key, field, text)
		else
			s[field] = nil
			F.write(c, 'HDEL', key, field)
		end
	end
end

-- What the waitpoints of a suspension close as.
local SHUT_AS = {
	satisfied = 'satisfied', already_satisfied = 'satisfied', operator_resume = 'operator_resume',
	execution_ended = 'execution_ended', timed_out_fail = 'timed_out', timed_out_cancel = 'timed_out',
	timed_out_expire = 'timed_out', timed_out_auto_resume = 'timed_out',
}

-- Closes the open suspension and its waitpoints; nothing when none is open. `more`: fields that closing sets.
function F.close_suspension(c, x, reason, more)
	if not F.open_suspension(c, x) then
		return
	end
	local fields = more or {}
	fields.closed_at, fields.close_reason = F.digits(c.now), reason
	amend(c, x, fields)
	F.close_waitpoints(c, x, 'active', SHUT_AS[reason])
	x.stimeout = NONE
	F.touch(c, x)
end

-- From SUSPENDED to runnable: the only way.
local function wake(c, x, reason, more)
	-- At most 30 days, written by Rust.
	local delay = tonumber(string.match(F.suspension(c, x).resume_policy, '"resume_delay_ms":(%d+)'))
	F.close_suspension(c, x, reason, more)
	if delay and delay > 0 then
		local at = F.after(c.now, delay)
		if x.nb == NONE or x.nb < at then
			x.nb, x.nbk = at, 3
		end
	end
	F.runnable(c, x, 4)
end
F.wake = wake

-- Places in a packed signal (signal.lua says what stands in all of them).
local G_ID, G_WAITPOINT, G_NAME, G_CATEGORY, G_TYPE, G_IDENTITY, G_CORRELATION, G_BOUND, G_EFFECT =
	2, 4, 5, 6, 7, 8, 9, 13, 14
F.G_EFFECT, F.G_WAITPOINT, F.G_TYPE, F.G_IDENTITY, F.G_BOUND = G_EFFECT, G_WAITPOINT, G_TYPE, G_IDENTITY, G_BOUND

-- A packed signal, as the evaluation takes it.
local function view(g)
	return {
		id = g[G_ID], waitpoint = g[G_WAITPOINT], name = g[G_NAME], category = g[G_CATEGORY], source_type = g[G_TYPE],
		source_identity = g[G_IDENTITY], correlation = g[G_CORRELATION], bound = g[G_BOUND],
	}
end
F.view = view

-- The condition of x's suspension as its recorded signals have left it. Only those that contributed changed anything.
function F.judge(c, x, s)
	local j = F.condition(s.condition, bound_ids(s))
	local seqs = redis.call('ZRANGE', c.p .. 'sm' .. x.id, 0, -1)
	for at = 1, #seqs, 512 do
		local packed = redis.call('HMGET', c.p .. 'sg' .. x.id, unpack(seqs, at, math.min(at + 511, #seqs)))
		for i = 1, #packed do
			if not packed[i] then
				F.corrupt('signal', x.id)
			end
			local g = unpacked('signal', packed[i], G_EFFECT, x.id)
			if g[G_WAITPOINT] then
				F.push(j, view(g))
			end
		end
	end
	return j
end

-- Puts a record under the next number; `payload` may be empty.
function F.record_signal(c, x, g, payload)
	local seq = F.digits(x.sigseq)
	x.sigseq = x.sigseq + 1
	F.write(c, 'HSET', c.p .. 'sg' .. x.id, seq, cmsgpack.pack(g))
	if payload ~= '' then
		F.write(c, 'HSET', c.p .. 'sp' .. x.id, seq, payload)
	end
	local effect = g[G_EFFECT]
	if effect == 2 or effect == 3 or effect == 7 then
		F.write(c, 'ZADD', c.p .. 'sm' .. x.id, seq, seq)
	end
	F.touch(c, x)
end

-- Seqs, packed signals and payloads as an answer carries them.
function F.signals_out(c, x, seqs, out)
	local call = redis.call
	for i = 1, #seqs do
		local packed = call('HGET', c.p .. 'sg' .. x.id, seqs[i])
		if not packed then
			F.corrupt('signal', x.id)
		end
		local n = #out
		out[n + 1], out[n + 2], out[n + 3] = seqs[i], packed, call('HGET', c.p .. 'sp' .. x.id, seqs[i])
	end
	return out
end

-- The present or last suspension, flat; false if there was none.
function F.suspension_info(c, x)
	if not x.ext.su then
		return false
	end
	return redis.call('HGETALL', c.p .. 's' .. x.id)
end

-- The last suspension with its matched signals: suspension, their number, the first 16.
function F.resume_info(c, x)
	local key = c.p .. 'sm' .. x.id
	local seqs = redis.call('ZRANGE', key, 0, 15)
	return { F.suspension_info(c, x), redis.call('ZCARD', key), F.signals_out(c, x, seqs, {}) }
end

-- Calls arm(waitpoint id, due) for every pending waitpoint.
function F.waitpoint_timers(c, x, arm)
	local ids = open_ids(c, x)
	for i = 1, #ids do
		local w = F.waitpoint(c, x, ids[i])
		if w and w[STATUS] == PENDING then
			arm(ids[i], w[EXPIRES])
		end
	end
end

-- The timer of a pending waitpoint; true if it was current.
function F.fire_waitpoint(c, x, id, due)
	local w = F.waitpoint(c, x, id)
	if not w or w[STATUS] ~= PENDING or w[EXPIRES] ~= due then
		return false
	end
	close_waitpoint(c, x, id, 'expired')
	F.touch(c, x)
	return true
end

-- The id of a suspension's timeout signal: version 8; the second one has its last bit turned.
local function timeout_signal(raw, second)
	local version, last = string.byte(raw, 7), string.byte(raw, 16)
	if second then
		last = last % 2 == 0 and last + 1 or last - 1
	end
	return string.sub(raw, 1, 6) .. string.char(128 + version % 16) .. string.sub(raw, 8, 15) .. string.char(last)
end

local ENDS = {
	fail = { 'timed_out_fail', 2 }, cancel = { 'timed_out_cancel', 3 }, expire = { 'timed_out_expire', 4 },
}

-- Records the timeout signal of the open suspension, which is due, and does what its behaviour says.
function F.fire_suspension_timeout(c, x)
	local s = F.open_suspension(c, x)
	if not s then
		x.stimeout = NONE
		F.touch(c, x)
		return
	end
	local behavior = cjson.decode(s.timeout_behavior)
	F.record_signal(c, x, {
		1, timeout_signal(F.uuid_raw(s.suspension_id), s.escalated_at), c.now, false, 'timeout', 'timeout', 'engine',
		'engine', false, false, false, false, false, 7,
	}, '')
	local kind = behavior.type
	if kind == 'auto_resume' then
		wake(c, x, 'timed_out_auto_resume')
	elseif kind == 'escalate' then
		local after = behavior.fail_after_ms
		x.stimeout = after and F.after(c.now, after) or NONE
		amend(c, x, {
			escalated_at = F.digits(c.now), timeout_at = after and F.digits(x.stimeout) or false,
			timeout_behavior = after and '{"type":"fail"}' or false,
		})
		F.close_waitpoints(c, x, 'active', 'timed_out')
		F.vector(c, x, 8, 0, 5)
		F.touch(c, x)
		F.end_if_covered(c, x)
	else
		F.close_suspension(c, x, ENDS[kind][1])
		F.terminate(c, x, ENDS[kind][2], F.CAUSE.suspension_timeout, 1)
	end
end
