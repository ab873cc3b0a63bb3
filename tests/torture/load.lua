-- What wrk asks: kept and new pages in turn. What it says at its end, as JSON: how they were answered.
-- Arguments: the path and the window.
local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  asked, pages, refused, others = 0, 0, 0, 0
  target = args[1]
end

function request()
  asked = asked + 1
  if asked % 2 == 0 then
    return wrk.format("GET", target .. "&limit=" .. (asked / 2 % 24 + 1))
  end
  return wrk.format("GET", target .. "&user_ids=user_0000&user_ids=" .. number .. "-" .. asked)
end

function response(status)
  if status == 200 then
    pages = pages + 1
  elseif status == 503 then
    refused = refused + 1
  else
    others = others + 1
  end
end

function done(summary, latency)
  local total = {pages = 0, refused = 0, others = 0}
  for _, thread in ipairs(threads) do
    for name in pairs(total) do
      total[name] = total[name] + thread:get(name)
    end
  end
  local errors = summary.errors
  io.write(string.format(
    '\n{"pages": %d, "refused": %d, "other_answers": %d, "errors": %d, "p99_ms": %d}\n',
    total.pages, total.refused, total.others,
    errors.connect + errors.read + errors.write + errors.timeout, latency:percentile(99) / 1000
  ))
end
