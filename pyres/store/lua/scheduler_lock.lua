-- scheduler_lock: acquires a scheduler's lock if it is free, or renews it if the caller holds it.
--
-- KEYS[1]  STRING  Keys.scheduler_lock() or Keys.static_lock()
-- ARGV[1]  the caller, as the lock's value: host:pid
-- ARGV[2]  its TTL, milliseconds
-- ARGV[3]  the longest TTL that is accepted of another scheduler's lock, milliseconds
-- returns  {1, ARGV[1], ARGV[2], -2} when the caller holds it; else {0, the holder, its TTL in milliseconds, its TTL
--          before this call: -1 for none}. Without a TTL, or with one too long, its TTL is set to ARGV[2]: the holder
--          died before it set one, or the server's clock was set back. A master that is alive renews its lock.
local holder = redis.call("GET", KEYS[1])
if holder and holder ~= ARGV[1] then
    local left = redis.call("PTTL", KEYS[1])
    if left ~= -1 and left <= tonumber(ARGV[3]) then return {0, holder, left, left} end
    redis.pcall("PEXPIRE", KEYS[1], ARGV[2])
    return {0, holder, tonumber(ARGV[2]), left}
end
redis.call("SET", KEYS[1], ARGV[1], "PX", ARGV[2])
return {1, ARGV[1], tonumber(ARGV[2]), -2}
