-- scheduler_lock: takes the master's lock if it is free, or renews it if it is ours.
--
-- KEYS[1]  STRING  Keys.scheduler_lock()
-- ARGV[1]  the value that says it is ours: host:pid
-- ARGV[2]  its time to live, milliseconds
-- ARGV[3]  the longest time to live that is believed of another's, milliseconds
-- returns  {1, ARGV[1], ARGV[2], -2} when it is ours; else {0, whose it is, milliseconds it still lives, the same as
--          it was found: -1 without an end}. One without an end, or with one too far ahead, gets ARGV[2] to live: its
--          owner died before it set one, or the server's clock went back. A master that lives renews it.
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then
    local left = redis.call("PTTL", KEYS[1])
    if left ~= -1 and left <= tonumber(ARGV[3]) then return {0, holder, left, left} end
    redis.pcall("PEXPIRE", KEYS[1], ARGV[2])
    return {0, holder, tonumber(ARGV[2]), left}
end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return {1, ARGV[1], tonumber(ARGV[2]), -2}
