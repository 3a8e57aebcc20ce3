-- promote: moves payloads of one page of a timestamp to their queues, or only removes them: all of it or nothing.
--
-- KEYS[1]     LIST      Keys.delayed()
-- KEYS[2]     ZSET      Keys.delayed_schedule
-- KEYS[3]     SET       Keys.queues
-- KEYS[4]     (STRING)  Keys.stat("failed"); left alone when it is no integer
-- KEYS[5]     (LIST)    Keys.failed
-- KEYS[6..n]  (LIST)    Keys.queue(), each queue once; the payloads of one that is no list stay
-- ARGV[1]     the timestamp, epoch seconds
-- ARGV[2]     Keys.timestamps_prefix: one SET a payload, named by the payload itself, so walked here
-- ARGV[3]     Keys.delayed_name()
-- ARGV[4]     RPUSH, or LPUSH for the front of the queues
-- ARGV[5]     index of the page's first payload
-- ARGV[6]     index of its last one
-- ARGV[7]     a text that stands in no list, to mark what goes
-- ARGV[8..]   the name of each queue, in the order of KEYS[6..n]; then for each payload three: its SHA-1 in hex, the
--             index of its target from KEYS[5] = 0 (the failures; -1: it is only removed), the bytes to push there
-- returns     {how many went; then of each target that is no list two: its index, what it is}; the timestamp goes
--             with its last payload, and a payload that is no longer on the page stays
-- uses        page_elements
local first, queues = tonumber(ARGV[5]), #KEYS - 5
local reply, wanted = wanted_elements(5, 0, queues, 8 + queues)
local gone, pushes = {}, {}
for place, payload in ipairs(redis.call("LRANGE", KEYS[1], first, ARGV[6])) do
    local same = wanted[redis.sha1hex(payload)]
    local at = same and table.remove(same, 1)
    if at then
        local target = tonumber(ARGV[at + 1])
        table.insert(gone, {place, payload})
        pushes[target] = pushes[target] or {}
        -- LPUSH puts each before the one before it.
        local behind = ARGV[4] == "RPUSH" or target < 1
        table.insert(pushes[target], behind and #pushes[target] + 1 or 1, ARGV[at + 2])
    end
end
pushes[-1] = nil
if #gone > 0 and first == 0 and gone[#gone][1] == #gone then
    -- Writing this to a full server fails before the first write.
    for target, payloads in pairs(pushes) do
        redis.call(target > 0 and ARGV[4] or "RPUSH", KEYS[5 + target], unpack(payloads))
    end
    redis.call("LTRIM", KEYS[1], #gone, -1)
elseif #gone > 0 then
    local answer = redis.pcall("LSET", KEYS[1], first + gone[1][1] - 1, ARGV[7])
    if answer.err and next(pushes) then return answer end
    if answer.err then
        -- A full server marks nothing, but it removes: one, which frees memory for the others.
        redis.call("LREM", KEYS[1], 1, gone[1][2])
        gone = {gone[1]}
    else
        for at = 2, #gone do redis.call("LSET", KEYS[1], first + gone[at][1] - 1, ARGV[7]) end
        -- From the end that is nearer.
        local count = 2 * first > redis.call("LLEN", KEYS[1]) and -#gone or #gone
        redis.call("LREM", KEYS[1], count, ARGV[7])
    end
    for target, payloads in pairs(pushes) do
        redis.call(target > 0 and ARGV[4] or "RPUSH", KEYS[5 + target], unpack(payloads))
    end
end
for target, payloads in pairs(pushes) do
    if target > 0 then
        redis.call("SADD", KEYS[3], ARGV[7 + target])
    else
        redis.pcall("INCRBY", KEYS[4], #payloads)
    end
end
local left = redis.call("LLEN", KEYS[1])
-- Of several that go a copy behind them goes as well; of one alone a copy may stay, and with it its way back here.
local copy = #gone == 1 and (left > 10000 or redis.pcall("LPOS", KEYS[1], gone[1][2]))
if copy ~= true and type(copy) ~= "number" then
    for _, one in ipairs(gone) do redis.pcall("SREM", ARGV[2] .. one[2], ARGV[3]) end
end
if left == 0 then redis.call("ZREM", KEYS[2], ARGV[1]) end
reply[1] = #gone
return reply
