#!/usr/bin/env bash
# Install Debian's chromium, which the tests of the site use. Says so and stops where that cannot be done; the tests are then skipped.
set -euo pipefail
if command -v chromium || command -v chromium-browser || command -v google-chrome; then exit 0; fi
if ! command -v apt-get >/dev/null; then
    echo 'No apt-get here: install chromium or Chrome yourself, and the tests of the site will find it.' >&2
    exit 1
fi
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
$sudo apt-get update -qq
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends chromium
command -v chromium
