-- push_failure: appends a failure record to its list, or to a list of pyres if that key has the wrong type.
--
-- KEYS[1]  (LIST)  the failure list: Keys.failed or Keys.failure_list()
-- KEYS[2]  (SET)   Keys.failed_queues
-- KEYS[3]  (LIST)  the list Keys.failed_elsewhere; if that is not a list either, a key of this name with a number
-- ARGV[1]  the record
-- ARGV[2]  the name of KEYS[1] to add to KEYS[2], or ""
-- ARGV[3]  the name of KEYS[3] there
-- returns  how many records the list has then
local function usable(key)
    local kind = redis.call("TYPE", key).ok
    return kind == "none" or kind == "list"
end
local key, name = KEYS[1], ARGV[2]
if not usable(key) then key, name = KEYS[3], ARGV[3] end
local number = 1
while not usable(key) do
    number = number + 1
    key, name = KEYS[3] .. ":" .. number, ARGV[3] .. ":" .. number
end
local size = redis.call("RPUSH", key, ARGV[1])
if name ~= "" then redis.pcall("SADD", KEYS[2], name) end
return size
