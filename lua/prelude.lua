-- The call: how it is opened, how it writes, how it ends; and small helpers.
--
-- One chunk: every file of this folder is joined behind this one, each in its own block. While the library loads only
-- `redis` exists, so nothing here touches `string`, `struct` or `cmsgpack` outside a function.
--
-- A call reads, computes on tables, and writes at its end, in `F.flush`: a refusal or an error before that leaves
-- nothing behind (flush.lua). Calls that do several things write after each. See README.md of this folder for the keys.

local F = {}

-- 2^53: an absent instant, duration or instant-like number. No legal value reaches it.
local NONE = 9007199254740992

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
