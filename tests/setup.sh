#!/bin/sh
# What the tests need beside Python packages. Whatever cannot be had here is skipped by its tests, with the reason;
# with CI=true they fail instead (tests/requirements.py).
set -eu
cd "$(dirname "$0")/.."
mkdir -p .cache

wanted=""
for program in mosquitto kcat; do
    command -v "$program" >/dev/null || [ -x "/usr/sbin/$program" ] || wanted="$wanted $program"
done
# for tests/powercut, where there is a device for it
[ ! -e /dev/fuse ] || ldconfig -p 2>/dev/null | grep -q libfuse3 || wanted="$wanted fuse3"
if [ -n "$wanted" ]; then
    if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing$wanted"
        export DEBIAN_FRONTEND=noninteractive
        # a policy of "do not start services": the tests start their own, on their own ports
        { apt-get -qq update && RUNLEVEL=1 apt-get -qq install -y --no-install-recommends $wanted; } \
            >.cache/apt.log 2>&1 || { echo "apt-get failed, see .cache/apt.log"; }
    else
        echo "not installed here:$wanted (needs apt-get and root)"
    fi
fi

jars=.cache/kafka/jars
list=tests/interop/apache/pom.xml
if ! cmp -s "$list" "$jars/pom.xml"; then
    if command -v mvn >/dev/null && command -v java >/dev/null; then
        echo "fetching Apache Kafka's jars"
        rm -rf "$jars.part"
        mvn --quiet --batch-mode --file "$list" dependency:copy-dependencies \
            -DincludeScope=runtime -DoutputDirectory="$PWD/$jars.part" >.cache/maven.log 2>&1 &&
            cp "$list" "$jars.part/pom.xml" && rm -rf "$jars" && mv "$jars.part" "$jars" ||
            { echo "maven failed, see .cache/maven.log"; }
    else
        echo "not fetched here: Apache Kafka's jars (needs mvn and java)"
    fi
fi

node=.cache/node
if ! cmp -s tests/interop/node/package.json "$node/package.json" || [ ! -d "$node/node_modules" ]; then
    if command -v npm >/dev/null; then
        echo "fetching kafkajs and mqtt.js"
        mkdir -p "$node"
        cp tests/interop/node/package.json "$node/package.json"
        npm install --silent --no-audit --no-fund --prefix "$node" >.cache/npm.log 2>&1 ||
            { rm -rf "$node"; echo "npm failed, see .cache/npm.log"; }
    else
        echo "not fetched here: kafkajs and mqtt.js (need npm)"
    fi
fi
