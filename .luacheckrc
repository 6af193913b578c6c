std = "lua51"
read_globals = { "redis", "server", "struct", "cmsgpack", "cjson", "bit" }
globals = { "F" }
max_line_length = 120
unused_args = false
ignore = { "212/c", "241/F" }
