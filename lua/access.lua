-- What the user who calls may do.

-- ff_lacking: which of some commands the caller's user may not run. Commands within functions run as the caller, so a
-- missing right would show in the middle of an operation.
-- KEYS: any key of a partition. ARGV: the pattern of the channels; then commands, their words parted by spaces: `@` is
-- the key, `*` the channel.
-- Reply: those of the commands that are not allowed, as they were given.
redis.register_function{
	function_name = 'ff_lacking',
	callback = function(keys, args)
		local lacking = {}
		for i = 2, #args do
			local words = {}
			for word in string.gmatch(args[i], '%S+') do
				if word == '@' then
					word = keys[1]
				elseif word == '*' then
					word = args[1]
				end
				words[#words + 1] = word
			end
			if not redis.acl_check_cmd(unpack(words)) then
				lacking[#lacking + 1] = args[i]
			end
		end
		return lacking
	end,
	flags = { 'no-writes' },
}
