-- The shared routines: gate, acquire, release, end_attempt, terminate, lose, fail_attempt (the contract's README,
-- section 6, and execution.md, section 3). They work on an execution of the call; nothing is written before `F.flush`.

local F = F
local NONE = 9007199254740992

-- Endings, attempts, causes and actors as numbers of the record.
local SUCCESS, FAILED, CANCELLED, EXPIRED, SKIPPED = 1, 2, 3, 4, 5
local STARTED, PAUSED, ENDED_SUCCESS, ENDED_FAILURE, ENDED_CANCELLED, INTERRUPTED = 1, 2, 3, 4, 5, 6
F.CAUSE = {
	completed = 1, failed = 2, attempt_timeout = 3, lease_expired = 4, lease_revoked = 5, max_reclaims_exceeded = 6,
	cancelled = 7, flow_cancelled = 8, deadline_passed = 9, suspension_timeout = 10, dependency_impossible = 11,
}
-- Who ended: 1 the engine, 2 the worker that last owned the attempt, 3 an operator, named beside it.
local ENGINE, WORKER, OPERATOR = 1, 2, 3

-- Whether the flow of x is cancelled over it.
function F.covered(c, x)
	if not x.flow or x.s == 9 then
		return false
	end
	local fl = F.flow(c, x.flow)
	if not fl then
		return false
	end
	local policy = fl.policy
	return policy == 'cancel_all' or (policy == 'cancel_pending' and x.s ~= 5)
end

-- What a runnable x may do next.
function F.gate(c, x)
	if x.s > 4 then
		return
	end
	local now, ext, changed = c.now, x.ext, false
	if x.nb <= now then
		x.nb, x.nbk = NONE, 0
		changed = true
	end
	local bl = ext.bl
	if bl then
		for reason = 1, 5 do
			local block = bl[reason]
			if block and block[2] and block[2] <= now then
				bl[reason] = nil
				changed = true
			end
		end
		if not next(bl) then
			ext.bl = nil
			bl = nil
		end
	end
	local a = x.a
	local s, b
	if x.flow then
		if F.covered(c, x) then
			return F.end_with_flow(c, x)
		end
		local fl = F.flow(c, x.flow)
		local held = x.held == 1
		if held and (not fl or fl.sealed) then
			-- Of the member, not of the execution: its last mutation stays.
			x.held = 0
			held = false
			F.put(c, x)
		end
		if held then
			s, b = 3, 0
		elseif x.imp > 0 and x.started == NONE then
			return F.terminate(c, x, SKIPPED, F.CAUSE.dependency_impossible, ENGINE)
		elseif x.unres > 0 then
			s, b = 3, 0
		end
	end
	if not s then
		if x.nb ~= NONE then
			s, b = 2, x.nbk
		elseif bl then
			s, b = 4, 0
			for reason = 1, 5 do
				if bl[reason] then
					b = reason
					break
				end
			end
		else
			s, b = 1, 0
		end
	end
	if changed or x.s ~= s or x.a ~= a or x.b ~= b then
		F.touch(c, x)
	end
	F.vector(c, x, s, a, b)
end

-- How an x in a queue would be claimed: 1 new, 2 resumed, 3 reclaimed.
function F.claim_kind(x)
	if x.s == 6 or x.s == 7 then
		return 3
	end
	if x.a == 4 then
		return 2
	end
	return 1
end

-- Starts owning. `attempt` is the id of a new attempt.
function F.acquire(c, x, lease, attempt, holder, ttl)
	local now = c.now
	local kind = F.claim_kind(x)
	if kind == 2 then
		x.astate = STARTED
		x.resumed = now
		x.adue = x.aleft ~= NONE and F.after(now, x.aleft) or NONE
		x.aleft = NONE
	else
		if x.attempts > 0 then
			F.keep_attempt(c, x)
		end
		x.atype = x.attempts == 0 and 1 or kind == 3 and 3 or x.a == 3 and 4 or 2
		x.aid = attempt
		x.arun = x.replays
		x.astarted = now
		x.astate = STARTED
		x.adue = x.atimeout ~= NONE and F.after(now, x.atimeout) or NONE
		x.aleft = NONE
		x.pkind, x.paused, x.resumed = 0, NONE, NONE
		x.aended, x.acause, x.aby = NONE, 0, 0
		x.attempts = x.attempts + 1
		local ext = x.ext
		ext.afr, ext.afc, ext.ab, ext.pr = nil, nil, nil, nil
	end
	x.epoch = x.epoch + 1
	x.lid = lease
	x.holder = holder
	x.lkind, x.lacq, x.lexp, x.lren = kind, now, F.after(now, ttl), NONE
	if x.started == NONE then
		x.started = now
	end
	x.nb, x.nbk = NONE, 0
	x.ext.gr = nil
	F.vector(c, x, 5, 0, 0)
	F.touch(c, x)
end

-- The current attempt as a packed array: what `a<id>` holds of attempts that a newer one has replaced.
function F.pack_attempt(x)
	local e = x.ext
	return cmsgpack.pack({
		1, x.aid, x.atype, x.arun, x.astarted, x.astate, x.lid, x.epoch, x.holder, x.adue, x.aleft, x.pkind, x.paused,
		x.resumed, x.aended, x.acause, x.aby, e.ab or false, e.afr or false, e.afc or false,
	})
end

function F.keep_attempt(c, x)
	F.write(c, 'HSET', c.p .. 'a' .. x.id, x.attempts - 1, F.pack_attempt(x))
end

-- Stops owning: the lease goes, the epoch stays.
function F.release(x)
	x.lkind, x.lacq, x.lexp, x.lren = 0, NONE, NONE, NONE
	x.adue = NONE
end

-- Pauses the running attempt, which keeps what is left of its time, and stops owning. The vector is the caller's.
-- kind: 1 delay, 2 children, 3 suspension.
function F.pause(c, x, kind)
	x.astate = PAUSED
	if x.adue ~= NONE then
		x.aleft = math.max(0, x.adue - c.now)
	end
	x.pkind = kind
	x.paused = c.now
	F.release(x)
	F.touch(c, x)
end

-- Makes x runnable: the gate decides where it goes.
function F.runnable(c, x, a)
	-- READY is only where the gate starts from; a grant of an execution that was not runnable cannot have lived.
	F.vector(c, x, 1, a, 0)
	F.touch(c, x)
	F.gate(c, x)
end

-- Ends the current attempt unless it is final; its pending waitpoints close with `reason`.
function F.end_attempt(c, x, state, cause, by, identity, failure, category, reason)
	if x.attempts > 0 and x.astate <= PAUSED then
		x.astate = state
		x.aended = c.now
		x.acause = cause
		x.aby = by
		x.aleft = NONE
		local ext = x.ext
		ext.ab = by == OPERATOR and identity or nil
		ext.afr, ext.afc = failure or nil, category or nil
	end
	if x.wps > 0 then
		F.close_waitpoints(c, x, 'pending', reason)
	end
end

-- Ends x: the only way. `o` (optional): identity (of an operator), failure, category, cancel, result, encoding.
function F.terminate(c, x, outcome, cause, by, o)
	local now = c.now
	o = o or {}
	local state = outcome == SUCCESS and ENDED_SUCCESS or outcome == CANCELLED and ENDED_CANCELLED or ENDED_FAILURE
	F.end_attempt(c, x, state, cause, by, o.identity, o.failure, o.category, 'execution_ended')
	F.close_suspension(c, x, 'execution_ended')
	if x.wps > 0 then
		F.close_waitpoints(c, x, 'open', 'execution_ended')
	end
	F.release(x)
	local ext = x.ext
	ext.gr, ext.bl = nil, nil
	x.nb, x.nbk = NONE, 0
	x.cause, x.by, x.completed = cause, by, now
	ext.eb = by == OPERATOR and o.identity or nil
	ext.fr, ext.fc, ext.cr = o.failure or nil, o.category or nil, o.cancel or nil
	if o.result then
		F.write(c, 'HSET', c.p .. 'o' .. x.id, x.replays .. 'r', o.result)
	end
	if o.encoding then
		F.write(c, 'HSET', c.p .. 'o' .. x.id, x.replays .. 'e', o.encoding)
	end
	F.vector(c, x, 9, 0, outcome)
	F.touch(c, x)
	local keep = F.after(now, x.retention)
	if x.keyend ~= NONE and x.keyend > keep then
		keep = x.keyend
	end
	if x.flow then
		F.member_ended(c, x, keep)
	else
		x.purge = keep
	end
end

-- Ends a covered member as its flow's cancellation says.
function F.end_with_flow(c, x)
	local fl = F.flow(c, x.flow)
	F.terminate(c, x, CANCELLED, F.CAUSE.flow_cancelled, OPERATOR, {
		identity = fl.cancelled_by, cancel = fl.cancel_reason,
	})
end

-- Ends the member if what was just done to it leaves it covered (flow.md 3.5).
function F.end_if_covered(c, x)
	if x.flow and F.covered(c, x) then
		F.end_with_flow(c, x)
	end
end

-- The lease of a RUNNING x ran out.
function F.lose(c, x)
	F.end_attempt(c, x, INTERRUPTED, F.CAUSE.lease_expired, ENGINE, nil, nil, nil, 'attempt_ended')
	F.release(x)
	if x.reclaims < x.maxreclaims then
		x.reclaims = x.reclaims + 1
		x.treclaims = math.min(x.treclaims + 1, 4294967295)
		F.vector(c, x, 6, 0, 0)
		F.touch(c, x)
		F.end_if_covered(c, x)
	else
		F.terminate(c, x, FAILED, F.CAUSE.max_reclaims_exceeded, ENGINE)
	end
end

-- An operator withdraws the lease of a RUNNING x.
function F.revoke(c, x, by, reason)
	F.end_attempt(c, x, INTERRUPTED, F.CAUSE.lease_revoked, OPERATOR, by, reason, nil, 'attempt_ended')
	F.release(x)
	F.vector(c, x, 7, 0, 0)
	F.touch(c, x)
	F.end_if_covered(c, x)
end

-- floor(n / d) and n mod d of whole numbers below 2^53, exactly.
local function divide(n, d)
	local m = math.fmod(n, d)
	return (n - m) / d, m
end

-- FNV-1a 64 of `text` modulo 2^53, in limbs of 16 bits.
function F.fnv(text)
	-- Offset 0xcbf29ce484222325, prime 0x100000001b3 = 2^40 + 0x1b3.
	local a, b, c, d = 0x2325, 0x8422, 0x9ce4, 0xcbf2
	for i = 1, #text do
		-- Exclusive or of the lowest byte.
		a = a - a % 256 + bit.bxor(a % 256, string.byte(text, i))
		-- Times 0x1b3, plus the lower 24 bits shifted by 40: limb 2 gets the low limb times 256.
		local p0 = a * 0x1b3
		local p1 = b * 0x1b3
		local p2 = c * 0x1b3 + a * 256
		local p3 = d * 0x1b3 + b * 256
		a = p0 % 65536
		p1 = p1 + (p0 - a) / 65536
		b = p1 % 65536
		p2 = p2 + (p1 - b) / 65536
		c = p2 % 65536
		p3 = p3 + (p2 - c) / 65536
		d = p3 % 65536
	end
	-- Modulo 2^53: the top limb keeps 5 bits.
	return a + b * 65536 + c * 4294967296 + (d % 32) * 281474976710656
end

-- The delay before the retry that follows n earlier ones. `f` is the frozen backoff: { delay } or { initial, max,
-- multiplier, jitter }; `text` the execution id as text.
function F.backoff(f, n, text)
	if #f == 1 then
		return f[1]
	end
	local base, max, multiplier = f[1], f[2], f[3]
	for _ = 1, n do
		local product = base * multiplier
		-- At most 366 days times 100,000: below 2^52.
		local following = math.min(max, (divide(product, 1000)))
		if following == base then
			break
		end
		base = following
	end
	if f[4] then
		local _, rest = divide(F.fnv(string.format('%d:', n) .. text), base + 1)
		return rest
	end
	return base
end

-- The text form of an execution id.
function F.id_text(c, id)
	return 'e' .. string.match(c.p, '{p(%d+)}') .. '_' .. F.uuid_text(id)
end

-- The attempt of x failed. Returns the instant of the retry, or nil when the failure is final.
function F.fail_attempt(c, x, cause, by, identity, reason, category, may_retry)
	local now = c.now
	local retry = may_retry and x.retries < x.maxretries
	local f
	if retry then
		f = F.frozen(x)
		local categories = f[3]
		if categories then
			retry = false
			for i = 1, #categories do
				if categories[i] == category then
					retry = true
				end
			end
		end
	end
	if not retry then
		F.terminate(c, x, FAILED, cause, by, { identity = identity, failure = reason, category = category })
		return nil
	end
	F.end_attempt(c, x, ENDED_FAILURE, cause, by, identity, reason, category, 'attempt_ended')
	F.release(x)
	local delay = F.backoff(f[2], x.retries, F.id_text(c, x.id))
	x.retries = x.retries + 1
	x.tretries = math.min(x.tretries + 1, 4294967295)
	local at = F.after(now, delay)
	if delay > 0 and at > now then
		x.nb, x.nbk = at, 2
	else
		x.nb, x.nbk = NONE, 0
	end
	F.runnable(c, x, 2)
	return at
end

-- The deadline or an attempt timeout of x is due and fires.
function F.expire_deadline(c, x)
	F.terminate(c, x, EXPIRED, F.CAUSE.deadline_passed, ENGINE)
end

-- The fence check: nil, or the refusal.
function F.fence(c, x, lease, epoch, attempt)
	local s = x.s
	if s < 5 or s > 7 then
		return {
			'!', 'execution_not_active', F.PHASE[s], s == 9 and F.OUTCOME[x.b] or 'none', x.epoch,
			x.attempts > 0 and x.aid,
		}
	end
	if s == 7 then
		return { '!', 'lease_revoked' }
	end
	if s == 6 or x.lexp <= c.now then
		return { '!', 'lease_expired' }
	end
	if x.lid ~= lease or x.epoch ~= epoch or x.aid ~= attempt then
		return { '!', 'stale_lease' }
	end
	return nil
end

-- The last call that ended or paused x and its first answer.
local LAST = '>BBI4c32BI7I7'
local LAST_BYTES = 53

-- Keeps a first answer. op: 1 complete, 2 fail, 3 cancel, 4 delay, 5 wait for children. answer: 1 completed,
-- 2 retry scheduled (v), 3 ended, 4 cancelled (v: phase), 5 delayed (v), 6 moved (v, w).
function F.keep_answer(x, op, who, run, digest, answer, v, w)
	local by
	if who.identity then
		by = who.identity
	else
		by = struct.pack('>c16I7c16', who.lease, who.epoch, who.attempt)
	end
	x.last = struct.pack(LAST, op, who.identity and 2 or 1, run, digest, answer, v or 0, w or 0) .. by
end

-- The first answer { answer, v, w } if this call is a repeat of the one that is kept.
function F.first_answer(x, op, who, digest)
	local last = x.last
	if #last < LAST_BYTES then
		return nil
	end
	local o, kind, run, d, answer, v, w = struct.unpack(LAST, last)
	if o ~= op or d ~= digest then
		return nil
	end
	local by = string.sub(last, LAST_BYTES + 1)
	if who.identity then
		if kind == 2 and x.s == 9 and run == x.replays and by == who.identity then
			return { answer, v, w }
		end
	elseif kind == 1 and by == struct.pack('>c16I7c16', who.lease, who.epoch, who.attempt) then
		return { answer, v, w }
	end
	return nil
end

-- Who acts, of four arguments: lease id, epoch and attempt id, or an operator's identity.
function F.actor(a, i)
	if a[i + 3] then
		return { identity = a[i + 3], by = OPERATOR }
	end
	return { lease = a[i], epoch = a[i + 1], attempt = a[i + 2], by = WORKER }
end

-- Refuses what the actor may not do: a worker's fence, an operator's call on an ended execution.
function F.may_act(c, x, who)
	if who.identity then
		if x.s == 9 then
			return { '!', 'execution_terminal', F.OUTCOME[x.b] }
		end
		return nil
	end
	return F.fence(c, x, who.lease, who.epoch, who.attempt)
end

-- What a claim hands out of other records, read before x is acquired: { inputs, resume information }, each or false.
function F.beside(c, x)
	local kind = x.s == 5 and x.lkind or F.claim_kind(x)
	return { x.flow and F.inputs(c, x) or false, kind == 2 and x.pkind == 3 and F.resume_info(c, x) or false }
end

-- What every claim returns of x: uuid, kind, record as it will be stored, payload, inputs, resume information. `with`
-- is what F.beside gave.
function F.claimed(c, x, with)
	with = with or F.beside(c, x)
	return { x.id, x.lkind, F.encode(x), redis.call('GET', c.p .. 'p' .. x.id), with[1], with[2] }
end
