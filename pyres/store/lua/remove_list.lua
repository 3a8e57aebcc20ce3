-- remove_list: removes a list, and its name from the set of such lists, also on a full server.
--
-- KEYS[1]  (LIST)  any list; a key of the wrong type is removed too
-- KEYS[2]  (SET)   the set, if there is one
-- ARGV[1]  the list's name in the set
-- returns  how many elements it had
local count = redis.pcall("LLEN", KEYS[1])
if KEYS[2] then redis.pcall("SREM", KEYS[2], ARGV[1]) end
redis.call("UNLINK", KEYS[1])
return type(count) == "number" and count or 0
