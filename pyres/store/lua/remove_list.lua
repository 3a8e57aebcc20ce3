-- remove_list: removes a list with all that is in it, and its name from the set that announces it, also on a full server.
--
-- KEYS[1]  (LIST)  any list; a key of another type goes too
-- KEYS[2]  (SET)   the set, where there is one
-- ARGV[1]  the list's name there
-- returns  how many elements it had
local count = redis.pcall("LLEN", KEYS[1])
if KEYS[2] then redis.pcall("SREM", KEYS[2], ARGV[1]) end
redis.call("UNLINK", KEYS[1])
return type(count) == "number" and count or 0
