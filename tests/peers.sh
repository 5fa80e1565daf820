#!/bin/sh
# The programs that are not ours and that tests speak to, from Debian. Gets only what is missing, starts nothing.
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
need haproxy haproxy
need nghttpd nghttp2-server
need node nodejs
need curl curl
need cc gcc
[ -e /usr/include/stdio.h ] || packages="$packages libc6-dev"
need faketime faketime
need strace strace
need zsh zsh
need fish fish
need mandoc mandoc
need ejabberdctl ejabberd
need beanstalkd beanstalkd

# Debian lets only one mail server be installed. Exim is the second: unpacked beside this checkout's files, with the
# libraries and the user that its package would bring.
peers=$(dirname "$0")/../.peers
exim=""
if ! command -v exim4 >/dev/null 2>&1 && [ ! -x "$peers/exim4/usr/sbin/exim4" ]; then
    exim=exim4-daemon-light
fi

# node-apn 1.x, which speaks the protocol that Apple has switched off, comes from npm.
if [ ! -d "$peers/apn1/node_modules/apn" ]; then
    command -v npm >/dev/null 2>&1 || packages="$packages npm"
fi

# The client of pyapns, which is Python 2: where there is one. Its tests are left out where there is none.
install_pyapns() {
    [ -d "$peers/pyapns/pyapns" ] && return
    for python in python2.7 "$HOME"/.pyenv/versions/2.7*/bin/python2.7; do
        if "$python" -m pip --version >/dev/null 2>&1; then
            mkdir -p "$peers/pyapns"
            echo '*' >"$peers/.gitignore"
            "$python" -m pip install -q --no-deps --target "$peers/pyapns" pyapns==0.4.1 2>/dev/null
            return
        fi
    done
}

install_apn1() {
    [ -d "$peers/apn1/node_modules/apn" ] && return
    mkdir -p "$peers/apn1"
    echo '*' >"$peers/.gitignore"
    npm install --silent --no-audit --no-fund --prefix "$peers/apn1" apn@1.7.8
}

if [ -z "$packages$exim" ]; then
    install_apn1
    install_pyapns
    exit 0
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "tests/peers.sh: missing:$packages $exim; install them, or run this as root" >&2
    exit 1
fi
command -v apt-get >/dev/null 2>&1 || {
    echo "tests/peers.sh: missing:$packages $exim; no apt-get here, install them by hand" >&2
    exit 1
}
# Debian starts a daemon when its package is installed, unless a policy says no: the tests start theirs themselves, with
# configurations of their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get update -qq
if [ -n "$exim" ]; then
    packages="$packages $(apt-cache depends "$exim" | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p' | tr '\n' ' ')"
fi
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-upgrade --no-install-recommends $packages >/dev/null
if [ -n "$exim" ]; then
    mkdir -p "$peers"
    echo '*' >"$peers/.gitignore"
    (cd "$peers" && apt-get download -qq "$exim" && dpkg -x "$exim"_*.deb exim4 && rm "$exim"_*.deb)
    id Debian-exim >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin Debian-exim
fi
install_apn1
install_pyapns
