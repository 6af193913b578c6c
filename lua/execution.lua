-- Domain execution: execution.md, section 4. Arguments are an array (args[1]); 1 is the manual clock or false.

local F = F
local NONE = 9007199254740992

-- An instant of a `When`: mode 0 none, 1 at, 2 after.
function F.when(c, mode, value)
	if mode == 0 then
		return NONE
	end
	if mode == 1 then
		return value
	end
	return F.after(c.now, value)
end

-- What the policy froze: { max_replays, backoff, categories or false, deadline mode, deadline value, suspension timeout
-- or false, suspension behavior, stream maxlen, max_signals }. The default policy is stored as nothing.
function F.frozen(x)
	if x.frozen == '' then
		return { 10, { 1000, 60000, 2000, false }, false, 0, 0, false, false, 10000, 10000 }
	end
	return cmsgpack.unpack(x.frozen)
end

-- An execution that does not exist yet. `a`: the creation's fields, at the places of ff_create_execution's arguments.
function F.new_execution(c, id, a, payload)
	local x = {
		id = id, s = 1, a = 1, b = 0, adm = a[4], prio = a[5], created = c.now, moved = c.now, touched = c.now,
		started = NONE, completed = NONE, purge = NONE, deadline = NONE, nb = NONE, nbk = 0, attempts = 0, epoch = 0,
		retries = 0, reclaims = 0, tretries = 0, treclaims = 0, replays = 0, cause = 0, by = 0, signals = 0,
		sigbytes = 0, sigseq = 1, wps = 0, stimeout = NONE, aid = '', atype = 0, arun = 0, astarted = NONE, astate = 0,
		lid = '', adue = NONE, aleft = NONE, pkind = 0, paused = NONE, resumed = NONE, aended = NONE, acause = 0, aby = 0,
		lkind = 0, lacq = NONE, lexp = NONE, lren = NONE, maxretries = a[13], maxreclaims = a[14],
		atimeout = a[15], retention = a[16], keyend = NONE, print = a[6], route = a[3], holder = '',
		tags = a[17], frozen = a[18], core = a[19], last = '', ext = {}, flow = nil, held = nil, inc = nil,
		unres = nil, sat = nil, imp = nil, name = nil, wq = false, wl = false, wp = 0, w1 = NONE, w2 = NONE, w3 = NONE,
		w4 = NONE, w5 = NONE, w7 = NONE, w9 = NONE, new = true,
	}
	x.aid = string.rep('\0', 16)
	x.lid = x.aid
	x.deadline = F.when(c, a[11], a[12])
	local nb = F.when(c, a[9], a[10])
	if nb ~= NONE and nb > c.now then
		x.nb, x.nbk = nb, 1
	end
	c.xs[id] = x
	F.put(c, x)
	if payload ~= '' then
		F.write(c, 'SET', c.p .. 'p' .. id, payload)
	end
	return x
end

-- Refuses a capability set beyond the bound: its registration, if it needs one, may be the 257th.
function F.may_register(c, route)
	local lane, set = F.split(route)
	if set == '' then
		return nil
	end
	local key = c.p .. 'l' .. lane
	if redis.call('HEXISTS', key, set) == 0 and redis.call('HLEN', key) >= 256 then
		return { '!', 'too_many_capability_sets', lane, 256 }
	end
	return nil
end

-- ff_create_execution. a: 2 id, 3 route (lane, newline, comma-joined set), 4 admission-controlled, 5 priority,
-- 6 fingerprint, 7 field of the key index or false, 8 window, 9 10 delay, 11 12 deadline, 13 max_retries,
-- 14 max_reclaims, 15 attempt timeout, 16 retention, 17 tags, 18 frozen, 19 core, 20 flow join or false. Of a plain
-- execution Rust builds the record (plain.lua).
-- args[2]: the payload.
-- Reply: { 'created' | 'already_exists', summary } | { 'duplicate', id, summary }.
local function create_execution(keys, args)
	if string.byte(args[1]) == 1 then
		return F.create_plain(keys, args)
	end
	local c, a = F.open(keys, args)
	local id, key = a[2], a[7]
	local old, why = F.find(c, id)
	if why == 'purging' then
		return { '!', 'execution_already_exists' }
	end
	if old then
		if old.print == a[6] and F.key_field(old) == key then
			return { 'already_exists', F.summary(old) }
		end
		return { '!', 'execution_already_exists' }
	end
	if key then
		local holder = redis.call('HGET', c.p .. 'k', key)
		local first = holder and F.find(c, holder)
		if first and first.keyend > c.now and F.key_field(first) == key then
			if first.print == a[6] then
				return { 'duplicate', first.id, F.summary(first) }
			end
			return { '!', 'idempotency_conflict', first.id }
		end
	end
	local join = a[20]
	local refused = join and F.may_join(c, join) or F.may_register(c, a[3])
	if refused then
		return refused
	end
	local x = F.new_execution(c, id, a, args[2])
	if key then
		x.keyend = F.after(c.now, a[8])
		F.write(c, 'HSET', c.p .. 'k', key, id)
	end
	if join then
		F.join(c, x, join)
	else
		F.gate(c, x)
	end
	F.finish(c)
	return { 'created', F.summary(x) }
end

-- The field of the key index of an execution: scope, newline, key; false if it has no key. `core` is Rust's, an array:
-- namespace, kind, encoding, creator, key, key scope is the flow, policy.
function F.key_field(x)
	if x.keyend == NONE then
		return false
	end
	local core = cmsgpack.unpack(x.core)
	if core[6] then
		return 'f' .. x.flow .. '\n' .. core[5]
	end
	return 'n' .. core[1] .. '\n' .. core[5]
end

-- Reads what a purge reads of x.
function F.read_core(x)
	F.lane(x)
	F.key_field(x)
end

-- ff_complete_execution. a: 2 id, 3..6 actor, 7 digest, 8 has a result, 9 encoding or false; args[2] the result. By a
-- worker, args[1] is bytes instead: 1, the manual clock or NONE (7 bytes), id, what is beside the result (1 result, 2
-- encoding), digest, 1 and 14 zeros (the answer), fence, encoding.
-- Reply: { 'completed', summary }.
local function complete_execution(keys, args)
	local c, a, x
	local packed = args[1]
	if string.byte(packed) == 1 then
		local sub = string.sub
		local now, id, with = struct.unpack('>I7c16B', packed, 2)
		local p, result = keys[1], with % 2 == 1
		now = F.clock(now)
		local raw = redis.call('GET', p .. 'e' .. id)
		if not raw then
			return { '!', 'execution_not_found' }
		end
		local encoding = with > 1 and sub(packed, 112)
		local done = F.complete_plain(p, now, id, raw, sub(packed, 26, 111), result and args[2], encoding)
		if done then
			return done
		end
		c = F.begin(p, now)
		local digest, _, lease, epoch, attempt = struct.unpack('>c32c15c16I7c16', packed, 26)
		a = { false, id, lease, epoch, attempt, false, digest, result, encoding }
		x = F.find(c, id, raw)
	else
		c, a = F.open(keys, args)
		x = F.find(c, a[2])
	end
	if not x then
		return { '!', 'execution_not_found' }
	end
	local who = F.actor(a, 3)
	if F.first_answer(x, 1, who, a[7]) then
		return { 'completed', F.summary(x) }
	end
	local refused = F.may_act(c, x, who)
	if refused then
		return refused
	end
	F.keep_answer(x, 1, who, x.replays, a[7], 1)
	F.terminate(c, x, 1, F.CAUSE.completed, who.by, {
		identity = who.identity, result = a[8] and args[2], encoding = a[9],
	})
	F.finish(c)
	return { 'completed', F.summary(x) }
end

-- ff_fail_execution. a: 2 id, 3..6 actor, 7 digest, 8 reason, 9 category, 10 no_retry.
-- Reply: { 'retry_scheduled', retry_at, summary } | { 'ended', summary }.
local function fail_execution(c, a, x)
	local who = F.actor(a, 3)
	local first = F.first_answer(x, 2, who, a[7])
	if first then
		if first[1] == 2 then
			return { 'retry_scheduled', first[2], F.summary(x) }
		end
		return { 'ended', F.summary(x) }
	end
	local refused = F.may_act(c, x, who)
	if refused then
		return refused
	end
	local run = x.replays
	local at = F.fail_attempt(
		c, x, F.CAUSE.failed, who.by, who.identity, a[8], a[9], not who.identity and not a[10]
	)
	if at and x.s == 9 then
		-- A covered member ends instead of being retried.
		at = nil
	end
	F.keep_answer(x, 2, who, run, a[7], at and 2 or 3, at)
	F.finish(c)
	if at then
		return { 'retry_scheduled', at, F.summary(x) }
	end
	return { 'ended', F.summary(x) }
end

local PHASE_OF = { 1, 1, 1, 1, 2, 2, 2, 3, 4 }
local PHASES = { 'runnable', 'active', 'suspended', 'terminal' }

-- ff_cancel_execution. a: 2 id, 3..6 actor, 7 digest, 8 reason. Reply: { 'cancelled', from, summary }.
local function cancel_execution(c, a, x)
	local who = F.actor(a, 3)
	local first = F.first_answer(x, 3, who, a[7])
	if first then
		return { 'cancelled', PHASES[first[2]], F.summary(x) }
	end
	local refused = F.may_act(c, x, who)
	if refused then
		return refused
	end
	local from = PHASE_OF[x.s]
	F.keep_answer(x, 3, who, x.replays, a[7], 4, from)
	F.terminate(c, x, 3, F.CAUSE.cancelled, who.by, { identity = who.identity, cancel = a[8] })
	F.finish(c)
	return { 'cancelled', PHASES[from], F.summary(x) }
end

-- ff_delay_execution. a: 2 id, 3..6 actor, 7 digest, 8 9 until. Reply: { 'delayed', until, summary }.
local function delay_execution(c, a, x)
	local who = F.actor(a, 3)
	local first = not who.identity and F.first_answer(x, 4, who, a[7])
	if first then
		return { 'delayed', first[2], F.summary(x) }
	end
	local refused = F.may_act(c, x, who)
	if refused then
		return refused
	end
	local at = F.when(c, a[8], a[9])
	if not who.identity then
		F.keep_answer(x, 4, who, x.replays, a[7], 5, at)
	end
	if at > c.now then
		x.nb, x.nbk = at, 1
		-- A new not_before voids the grant.
		x.ext.gr = nil
	else
		x.nb, x.nbk = NONE, 0
	end
	F.touch(c, x)
	if x.s == 5 then
		F.pause(c, x, 1)
		F.runnable(c, x, 4)
	elseif x.s <= 4 then
		F.gate(c, x)
	end
	F.finish(c)
	return { 'delayed', at, F.summary(x) }
end

-- ff_move_to_waiting_children. a: 2 id, 3..5 fence, 6 digest.
-- Reply: { 'moved', unresolved, impossible, summary } | { 'already_satisfied', impossible, summary }.
local function move_to_waiting_children(c, a, x)
	local who = { lease = a[3], epoch = a[4], attempt = a[5] }
	local first = F.first_answer(x, 5, who, a[6])
	if first then
		return { 'moved', first[2], first[3], F.summary(x) }
	end
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	if not x.flow or x.unres == 0 then
		return { 'already_satisfied', x.flow and x.imp or 0, F.summary(x) }
	end
	local unresolved, impossible = x.unres, x.imp
	F.keep_answer(x, 5, who, x.replays, a[6], 6, unresolved, impossible)
	F.pause(c, x, 2)
	F.runnable(c, x, 4)
	F.finish(c)
	return { 'moved', unresolved, impossible, F.summary(x) }
end

-- ff_expire_execution. a: 2 id, 3 what ('deadline' | 'attempt_timeout'), 4 deadline_at or attempt_index.
-- Reply: { 'retry_scheduled', retry_at, summary } | { 'ended', summary } | { 'not_due', cause, summary }.
local function expire_execution(c, a, x)
	local cause
	if x.s == 9 then
		cause = 'terminal'
	elseif a[3] == 'deadline' then
		if x.deadline == NONE then
			cause = 'not_armed'
		elseif x.deadline > c.now then
			cause = 'early'
		end
	elseif x.attempts - 1 ~= a[4] then
		cause = 'stale'
	elseif x.adue == NONE then
		cause = 'not_armed'
	elseif x.adue > c.now then
		cause = 'early'
	end
	if cause then
		return { 'not_due', cause, F.summary(x) }
	end
	local at
	if a[3] == 'deadline' then
		F.expire_deadline(c, x)
	else
		at = F.fire_attempt_timeout(c, x)
	end
	F.finish(c)
	if x.s == 9 then
		return { 'ended', F.summary(x) }
	end
	return { 'retry_scheduled', at, F.summary(x) }
end

-- An attempt timeout: a failure of category timeout, without a reason.
function F.fire_attempt_timeout(c, x)
	return F.fail_attempt(c, x, F.CAUSE.attempt_timeout, 1, nil, nil, 'timeout', true)
end

-- ff_change_priority. a: 2 id, 3 priority. Reply: { 'changed', old, new, summary }.
local function change_priority(c, a, x)
	if x.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[x.b] }
	end
	local old = x.prio
	x.prio = a[3]
	F.touch(c, x)
	F.finish(c)
	return { 'changed', old, x.prio, F.summary(x) }
end

-- ff_update_progress. a: 2 id, 3..5 fence, 6 pct or false, 7 message or false. Reply: { 'updated', summary }.
local function update_progress(c, a, x)
	local refused = F.fence(c, x, a[3], a[4], a[5])
	if refused then
		return refused
	end
	local pr = x.ext.pr or { false, false }
	x.ext.pr = { a[6] or pr[1], a[7] or pr[2], c.now }
	F.touch(c, x)
	F.finish(c)
	return { 'updated', F.summary(x) }
end

-- Applies tag changes (pairs of key and text, or key and false) to packed tags. Returns packed tags and their number,
-- or nil when there would be more than 64.
function F.change_tags(packed, changes)
	local tags = packed == '' and {} or cmsgpack.unpack(packed)
	for i = 1, #changes, 2 do
		tags[changes[i]] = changes[i + 1] or nil
	end
	local n = 0
	for _ in pairs(tags) do
		n = n + 1
	end
	if n > 64 then
		return nil
	end
	return n == 0 and '' or cmsgpack.pack(tags), n
end

-- ff_set_execution_tags. a: 2 id, 3 changes. Reply: { 'tagged', count, summary }.
local function set_execution_tags(c, a, x)
	local tags, n = F.change_tags(x.tags, a[3])
	if not tags then
		return { '!', 'too_many_tags', 64 }
	end
	x.tags = tags
	F.touch(c, x)
	F.finish(c)
	return { 'tagged', n, F.summary(x) }
end

-- Removes the block of one reason; says whether there was one.
function F.unblock(c, x, reason)
	local bl = x.ext.bl
	if not bl or not bl[reason] then
		return false
	end
	bl[reason] = nil
	if not next(bl) then
		x.ext.bl = nil
	end
	F.touch(c, x)
	if x.s <= 4 then
		F.gate(c, x)
	end
	return true
end

-- ff_block_execution. a: 2 id, 3 reason 1..5 (operator, policy, budget, quota, route), 4 detail, 5 6 until, 7 by.
-- Reply: { 'blocked' | 'not_blocked', summary }.
local function block_execution(c, a, x)
	if x.s == 9 then
		return { '!', 'execution_terminal', F.OUTCOME[x.b] }
	end
	if x.s == 5 or x.s == 8 then
		return { '!', 'execution_not_eligible', F.summary(x), 'not_runnable' }
	end
	local reason = a[3]
	local due = F.when(c, a[5], a[6])
	if due <= c.now then
		F.unblock(c, x, reason)
		F.finish(c)
		return { 'not_blocked', F.summary(x) }
	end
	local bl = x.ext.bl or {}
	local old = bl[reason]
	bl[reason] = { a[4], due ~= NONE and due, a[7], old and old[4] or c.now }
	x.ext.bl = bl
	x.ext.gr = nil
	F.touch(c, x)
	F.gate(c, x)
	F.finish(c)
	return { 'blocked', F.summary(x) }
end

-- ff_unblock_execution. a: 2 id, 3 reason. Reply: { 'unblocked' | 'not_blocked', summary }.
local function unblock_execution(c, a, x)
	local done = F.unblock(c, x, a[3])
	F.finish(c)
	return { done and 'unblocked' or 'not_blocked', F.summary(x) }
end

-- Starts the next run of a terminal x (execution.md 4.8, "Does"). `deadline`: its instant or NONE.
function F.replay(c, x, reason, by, digest, deadline)
	local e = x.ext
	local rp = e.rp or false
	-- The record of the run that it closes.
	F.write(c, 'HSET', c.p .. 'o' .. x.id, x.replays .. 'c', cmsgpack.pack({
		1, x.b, x.completed, x.cause, x.by, e.eb or (x.by == 2 and x.holder) or false, e.fr or false, e.fc or false,
		e.cr or false, x.deadline, rp,
	}))
	e.rp = { reason, by, c.now, digest }
	x.replays = x.replays + 1
	x.retries, x.reclaims, x.signals, x.sigbytes = 0, 0, 0, 0
	x.started, x.completed, x.purge = NONE, NONE, NONE
	x.cause, x.by = 0, 0
	e.eb, e.fr, e.fc, e.cr, e.pr = nil, nil, nil, nil, nil
	x.deadline = deadline
	F.runnable(c, x, 3)
end

-- The deadline of a replay without an argument: the policy's duration from now, its instant if still to come, or none.
function F.replay_deadline(c, f)
	local at = F.when(c, f[4], f[5])
	if f[4] == 1 and at <= c.now then
		return NONE
	end
	return at
end

-- ff_replay_execution. a: 2 id, 3 replay_count, 4 reason, 5 by, 6 7 deadline, 8 reopen_skipped, 9 digest.
-- Reply: { 'replayed', replay_count, summary }.
local function replay_execution(c, a, x)
	local count = x.replays
	if count == a[3] + 1 then
		if x.ext.rp and x.ext.rp[4] == a[9] then
			return { 'replayed', count, F.summary(x) }
		end
		return { '!', 'stale_replay', count }
	end
	if x.s ~= 9 then
		return { '!', 'execution_not_terminal', F.PHASE[x.s] }
	end
	if count ~= a[3] then
		return { '!', 'stale_replay', count }
	end
	local f = F.frozen(x)
	if count >= f[1] then
		return { '!', 'max_replays_exhausted', count, f[1] }
	end
	local refused = x.flow and F.may_replay(c, x) or F.may_register(c, x.route)
	if refused then
		return refused
	end
	local deadline = F.when(c, a[6], a[7])
	if a[6] == 0 then
		deadline = F.replay_deadline(c, f)
	end
	if x.flow then
		F.replay_member(c, x, a[4], a[5], a[9], deadline, a[8])
	else
		F.replay(c, x, a[4], a[5], a[9], deadline)
	end
	F.finish(c)
	return { 'replayed', x.replays, F.summary(x) }
end

redis.register_function('ff_create_execution', F.settled(create_execution))
redis.register_function('ff_complete_execution', F.settled(complete_execution))
redis.register_function('ff_fail_execution', F.on_execution(fail_execution))
redis.register_function('ff_cancel_execution', F.on_execution(cancel_execution))
redis.register_function('ff_expire_execution', F.on_execution(expire_execution))
redis.register_function('ff_delay_execution', F.on_execution(delay_execution))
redis.register_function('ff_move_to_waiting_children', F.on_execution(move_to_waiting_children))
redis.register_function('ff_replay_execution', F.on_execution(replay_execution))
redis.register_function('ff_change_priority', F.on_execution(change_priority))
redis.register_function('ff_update_progress', F.on_execution(update_progress))
redis.register_function('ff_set_execution_tags', F.on_execution(set_execution_tags))
redis.register_function('ff_block_execution', F.on_execution(block_execution))
redis.register_function('ff_unblock_execution', F.on_execution(unblock_execution))
