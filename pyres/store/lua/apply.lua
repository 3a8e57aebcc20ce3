-- apply: executes the commands of a transaction, if the watched keys have the values that were read.
--
-- KEYS[1..n]   (STRING)  the watched keys
-- ARGV[1..n]   the value that each had, after "="; "" for none
-- ARGV[n+1..]  for each command the number of its words, and the words; for EVAL the second is an index of `scripts`
-- returns      the commands' replies in their order; nil, with nothing executed, if a watched key has another value
-- The first command frees memory: on a full server a script that has written once may write on, a MULTI may not.
for at, key in ipairs(KEYS) do
    local value = redis.pcall("GET", key)
    value = type(value) == "string" and "=" .. value or ""
    if value ~= ARGV[at] then return nil end
end
local function execute(words)
    if words[1] ~= "EVAL" then return redis.pcall(unpack(words)) end
    local keys, args, count = {}, {}, tonumber(words[3])
    for at = 4, #words do table.insert(at <= 3 + count and keys or args, words[at]) end
    return scripts[words[2]](keys, args)
end
local replies, at = {}, #KEYS + 1
while at <= #ARGV do
    local words = {}
    for word = at + 1, at + tonumber(ARGV[at]) do table.insert(words, ARGV[word]) end
    table.insert(replies, execute(words) or false)
    at = at + #words + 1
end
return replies
