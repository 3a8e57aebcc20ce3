-- cancel_delayed: removes every copy of a payload that waits, at one timestamp or at all of them.
--
-- KEYS[1]    SET   Keys.timestamps() of the payload
-- KEYS[2]    ZSET  Keys.delayed_schedule
-- ARGV[1]    the payload
-- ARGV[2]    the prefix of the namespace, to name the LISTs that the members of KEYS[1] stand for
-- ARGV[3]    a Keys.delayed_name() to cancel only there, or ""
-- returns    how many copies were removed
local removed = 0
local names = ARGV[3] ~= "" and {ARGV[3]} or redis.call("SMEMBERS", KEYS[1])
for _, name in ipairs(names) do
    local list = ARGV[2] .. name
    local kind = redis.call("TYPE", list).ok
    if kind ~= "none" and kind ~= "list" then
        return redis.error_reply("WRONGTYPE " .. list .. " is a " .. kind .. ": expected a list")
    end
end
for _, name in ipairs(names) do
    local list = ARGV[2] .. name
    removed = removed + redis.call("LREM", list, 0, ARGV[1])
    redis.call("SREM", KEYS[1], name)
    if redis.call("LLEN", list) == 0 then
        redis.call("ZREM", KEYS[2], string.match(name, "%d+$"))
    end
end
return removed
