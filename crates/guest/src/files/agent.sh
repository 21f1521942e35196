#!/bin/sh
# Runs what the test sends through the port of a name: the script's length on a line, then the script. Answers with its
# exit code and the length of its output on a line, then the output. The end of the test is the end of the guest.
port=
for name in /sys/class/virtio-ports/*/name; do
  if [ "$(cat "$name")" = agent ]; then
    port=${name%/name}
    port=/dev/${port##*/}
  fi
done
exec 3<>"$port"
echo ready >&3
while read -r length <&3; do
  head -c "$length" <&3 >/run/agent.script
  sh /run/agent.script >/run/agent.output 2>&1 </dev/null 3>&-
  code=$?
  # What still runs may go on writing.
  cp /run/agent.output /run/agent.answer
  echo "$code $(wc -c </run/agent.answer)" >&3
  cat /run/agent.answer >&3
done
poweroff -f
