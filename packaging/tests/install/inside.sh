#!/bin/sh
# Installs the package, relays a message, removes it, purges it, and does it again with mail that stays. Each step says what it is; the
# first that fails ends the script.
set -eu
exec 2>&1
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd /tmp

step() { echo "== $*"; }
fail() {
    echo "FAILED: $*"
    exit 1
}
dpkg_quietly() { dpkg --force-unsafe-io --no-triggers "$@"; }

# Waits for a line of a program's output.
wait_for() {
    tries=600
    until grep -q "$2" "$1"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "no line $2 in: $(cat "$1")"
        sleep 0.1
    done
}

# Starts the service as its unit does, but for what only systemd can do.
start_kumod() {
    command=$(sed -n 's/^ExecStart=//p' /usr/lib/systemd/system/kumod.service)
    trace=
    if [ "${1:-}" = traced ] && command -v strace >/dev/null; then
        trace="strace -f -qq -o /mnt/calls"
    fi
    # shellcheck disable=SC2086  # these are several words each
    $trace setpriv --reuid=kumod --regid=kumod --init-groups --no-new-privs --bounding-set=-all,+net_bind_service \
        --inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service -- $command 2>kumod.log &
    kumod=$!
    wait_for kumod.log '^initialization complete'
}

stop_kumod() {
    # Under strace it is the child that is to stop.
    children=$(cat "/proc/$kumod/task/$kumod/children")
    # shellcheck disable=SC2086  # a number and a space
    kill -TERM ${children:-$kumod}
    wait "$kumod" || fail "kumod ended with $?: $(cat kumod.log)"
}

step "is installed"
dpkg_quietly -i /mnt/kumod.deb
[ -z "$(dpkg -V kumod)" ] || fail "files differ from the package: $(dpkg -V kumod)"
[ "$(stat -c '%U:%G %a' /var/spool/kumod)" = "kumod:kumod 750" ] || fail "the spool is not kumod's"
[ -L /etc/systemd/system/multi-user.target.wants/kumod.service ] || fail "the service is not enabled"
[ "$(id -un kumod)" = kumod ]
[ ! -L /etc/systemd/system/multi-user.target.wants/kumo-proxy.service ] || fail "the proxy is enabled, and nobody asked for it"

step "relays a message"
sink --listen 127.0.0.1:25 --max-messages 1 --json sink.json 2>sink.log &
sink=$!
wait_for sink.log '^initialization complete'
sed -i "s/^local next_hop = nil/local next_hop = 'sink.localhost'/" /etc/kumod/init.lua
start_kumod traced
traffic-gen --target 127.0.0.1:2025 -n 1 -c 1 -q >run.log || fail "traffic-gen ended with $?: $(cat run.log)"
wait "$sink" || fail "sink ended with $?: $(cat sink.log)"
stop_kumod
grep -q '"type":"Delivery"' /var/log/kumod/* || fail "no delivery in the log"

step "is installed again over itself, and the changed policy stays"
dpkg_quietly -i /mnt/kumod.deb
grep -q 'sink.localhost' /etc/kumod/init.lua || fail "the operator's policy was overwritten"
[ ! -L /etc/systemd/system/multi-user.target.wants/kumo-proxy.service ] || fail "the proxy is enabled by a new version"

step "is removed: state and policy stay"
mkdir -p /var/lib/kumod/tuner
echo '{}' >/var/lib/kumod/tuner/000001-test.json
dpkg_quietly -r kumod >remove.log
grep -q 'tuner revert' remove.log || fail "nobody is told of tuner's changes: $(cat remove.log)"
[ ! -e /usr/bin/kumod ] || fail "the program stays"
[ -e /etc/kumod/init.lua ] || fail "the policy went"
[ -d /var/spool/kumod/data/segments ] || fail "the spool went"
[ -n "$(ls /var/log/kumod)" ] || fail "the log went"

step "is purged: an empty spool goes, the user stays"
dpkg_quietly -P kumod
for gone in /etc/kumod /var/spool/kumod /var/log/kumod; do
    [ ! -e "$gone" ] || fail "$gone stays: $(ls -laR "$gone")"
done
id kumod >/dev/null || fail "the user went"
[ -e /var/lib/kumod/tuner/000001-test.json ] || fail "what tuner needs to put the host back went"
[ "$(stat -c '%U' /var/lib/kumod)" = root ] || fail "tuner's folder lies in one that is not root's"
! find /etc/systemd /var/lib/systemd /etc/default -name 'kumo*' | grep . || fail "traces of the service stay"

step "holds mail: it stays when the package is purged"
dpkg_quietly -i /mnt/kumod.deb
sed -i "s/^local next_hop = nil/local next_hop = 'sink.localhost'/" /etc/kumod/init.lua
start_kumod
traffic-gen --target 127.0.0.1:2025 -n 1 -c 1 -q >run.log || fail "traffic-gen ended with $?: $(cat run.log)"
stop_kumod
dpkg_quietly -P kumod >purge.log 2>&1 || fail "$(cat purge.log)"
grep -q '/var/spool/kumod/data holds mail' purge.log || fail "nobody is told of the mail: $(cat purge.log)"
grep -q 'KUMOD_PURGE_SPOOL=yes' purge.log || fail "nobody is told how to remove it: $(cat purge.log)"
[ -d /var/spool/kumod/data/segments ] || fail "mail was thrown away"

step "goes with its mail when that is said"
dpkg_quietly -i /mnt/kumod.deb
kumod spool inspect --spool /var/spool/kumod/data | grep -q '^messages: 1,' || fail "the message is gone"
KUMOD_PURGE_SPOOL=yes dpkg_quietly -P kumod
[ ! -e /var/spool/kumod ] || fail "the spool stays"

echo "all steps done"
