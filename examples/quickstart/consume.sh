#!/usr/bin/env bash
# consume.sh FILE PROGRAM: reads the tables' topics of $QUICKSTART_BROKERS into a file, one message a
# line, with kcat or, by tests/servers/kafka.sh, with Kafka's console consumer.
set -euo pipefail
file=$1 program=$2

if [ "${program##*/}" = kcat ]; then
  # kcat ends where its pattern matches no topic yet.
  until "$program" -L -b "$QUICKSTART_BROKERS" 2>/dev/null | grep -q 'topic "shop[.].*[.]'; do
    sleep 0.5
  done
  exec "$program" -u -q -E -b "$QUICKSTART_BROKERS" -X topic.metadata.refresh.interval.ms=1000 \
    -X auto.offset.reset=earliest -G quickstart '^shop[.].*[.].*' >"$file"
fi
exec "$program" tool org.apache.kafka.tools.consumer.ConsoleConsumer \
  --bootstrap-server "$QUICKSTART_BROKERS" --include 'shop[.].*[.].*' --from-beginning \
  --command-property metadata.max.age.ms=1000 >"$file"
