#!/bin/sh
# The programs that are not ours and that tests speak to, from Debian. Installs only what is missing, starts nothing.
set -eu

packages=""
need() { # COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages="$packages $2"
}
PATH="$PATH:/usr/sbin:/sbin"
need swaks swaks
need smtp-source postfix
need smtp-sink postfix
need nginx nginx-light
need nghttpd nghttp2-server

[ -z "$packages" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "tests/peers.sh: missing:$packages; install them, or run this as root" >&2
    exit 1
fi
command -v apt-get >/dev/null 2>&1 || {
    echo "tests/peers.sh: missing:$packages; no apt-get here, install them by hand" >&2
    exit 1
}
# Debian starts a daemon when its package is installed, unless a policy says no. Of Postfix only smtp-source and
# smtp-sink are wanted; nginx is started by the tests with a configuration of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $packages >/dev/null
