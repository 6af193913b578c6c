-- Records that are kept readable: one hash in the contract's flat form, numbers as text.

local F = F

F.MAX = 9007199254740991

-- A whole number as text: exact up to 2^53 - 1.
function F.digits(n)
	return string.format('%d', n)
end

-- The record at `d` of a unit that is its own partition, as a map and as it is stored; nil if there is none.
function F.flat(c, what)
	local list = redis.call('HGETALL', c.p .. 'd')
	if #list == 0 then
		return nil
	end
	local t = F.map(list)
	-- Another major version has another meaning; a newer minor one only more fields.
	if not t.v or string.sub(t.v, 1, 2) ~= '1.' then
		F.corrupt(what)
	end
	return t, list
end

-- A number of such a record: canonical and at most 2^53 - 1, or corruption. An absent optional one is nil.
function F.number(t, field, what, optional)
	local s = t[field]
	if not s and optional then
		return nil
	end
	local n = s and (s == '0' or string.find(s, '^[1-9]%d*$')) and #s <= 16 and tonumber(s)
	if not n or n > F.MAX then
		F.corrupt(what)
	end
	return n
end
