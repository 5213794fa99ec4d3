#!/usr/bin/env bash
# Both loops against the server at URL, then the report. Where nothing answers at URL a server is
# started from STORE, and ended afterwards. Options of locustfile.py come as LOAD_* variables.
set -euo pipefail
cd "$(dirname "$0")/.."
url=${URL:-http://127.0.0.1:8000}
export LOAD_STORE=${STORE:-models/store}
export LOAD_REPORT=${LOAD_REPORT:-loadtests/report}
mkdir -p "$LOAD_REPORT"

is_ready() { curl --silent --fail --max-time 2 --output /dev/null "$url/readyz"; }

start_server() {
  local address=${url#*://}
  CONVSERVE_HOST=${address%%:*} CONVSERVE_PORT=${address##*:} CONVSERVE_STORE=$LOAD_STORE \
    convserve serve >"$LOAD_REPORT/server.log" 2>&1 &
  server=$!
  trap 'kill -TERM "$server" 2>/dev/null && wait "$server" || true' EXIT
  for _ in $(seq 120); do
    is_ready && return
    kill -0 "$server" 2>/dev/null || break
    sleep 0.5
  done
  echo "no server answers at $url, and none became ready here: see $LOAD_REPORT/server.log" >&2
  exit 1
}

loop() {
  python -m locust -f loadtests/locustfile.py --headless --only-summary --loglevel WARNING \
    --host "$url" --loop "$1" --loads "$2"
}

is_ready || start_server
rm -f "$LOAD_REPORT"/{closed,open}.json
status=0
loop closed "${LOAD_USERS:-}" || status=$?
loop open "${LOAD_RATES:-}" || status=$?
python -m loadtests.report "$LOAD_REPORT"
exit "$status"
