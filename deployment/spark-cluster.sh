#!/bin/sh
# A Spark cluster of one's own on this machine: a master and two workers of one core each on 127.0.0.1, from the jars of
# the installed pyspark. For tests and for trying; a real cluster is there already.
#
#   deployment/spark-cluster.sh start FOLDER    starts it and prints how to reach it
#   deployment/spark-cluster.sh stop FOLDER     stops it and removes what its workers left
#
# FOLDER is made where it is missing, for its owner alone. Who wants to use the cluster needs the secret in it.
set -eu

usage() { sed -n 's/^#   //p' "$0" >&2; exit 2; }
refuse() { echo "$*" >&2; exit 1; }

[ $# -eq 2 ] || usage
mkdir -p -m 700 "$2"
folder=$(cd "$2" && pwd -P)
python=$(cd "$(dirname "$0")/.." && pwd -P)/.venv/bin/python
SPARK_HOME=$("$python" -c 'import pyspark; print(pyspark.__path__[0])' 2>/dev/null) || refuse "Spark is not installed: make spark"
export SPARK_HOME SPARK_CONF_DIR="$folder/conf" SPARK_LOCAL_IP=127.0.0.1 SPARK_LOCAL_DIRS="$folder/local"
umask 077

# Starts the daemon $1 with the arguments after it; what it says of itself goes to FOLDER/$1.log.
daemon() {
  name=$1
  shift
  # It is there before anybody looks for words in it.
  : >"$folder/$name.log"
  nohup "$SPARK_HOME/bin/spark-class" "$@" </dev/null >"$folder/$name.log" 2>&1 &
  echo $! >"$folder/$name.pid"
}

# Waits three minutes at most until FOLDER/master.log has $2 lines with the words $1.
await() {
  for _ in $(seq 900); do
    [ "$(grep -c "$1" "$folder/master.log")" -lt "$2" ] || return 0
    kill -0 "$(cat "$folder/master.pid")" 2>/dev/null || break
    sleep 0.2
  done
  "$0" stop "$folder"
  refuse "Spark did not start: see $folder/*.log"
}

case $1 in
  start)
    ! ls "$folder"/*.pid >/dev/null 2>&1 || refuse "A cluster runs in $folder already: stop it first."
    mkdir -p "$folder/conf"
    # Others on this machine reach the ports, too, and may do nothing there.
    secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s\n' 'spark.authenticate true' "spark.authenticate.secret $secret" 'spark.network.crypto.enabled true' \
      'spark.ui.killEnabled false' 'spark.master.rest.enabled false' 'spark.executor.memory 1g' \
      'spark.sql.shuffle.partitions 2' >"$folder/conf/spark-defaults.conf"
    # Of the work itself nothing is logged: messages may quote values.
    printf '%s\n' 'rootLogger.level = off' 'rootLogger.appenderRef.said.ref = said' \
      'logger.deploy.name = org.apache.spark.deploy' 'logger.deploy.level = info' \
      'logger.deploy.additivity = false' 'logger.deploy.appenderRef.said.ref = said' \
      'appender.said.type = Console' 'appender.said.name = said' 'appender.said.target = SYSTEM_ERR' 'appender.said.layout.type = PatternLayout' \
      'appender.said.layout.pattern = %d %p %c{1}: %m%n' >"$folder/conf/log4j2.properties"
    daemon master org.apache.spark.deploy.master.Master --host 127.0.0.1 --port 0 --webui-port 0
    await 'Starting Spark master at' 1
    master=$(sed -n 's/.*Starting Spark master at \(spark:[^ ]*\).*/\1/p' "$folder/master.log")
    for number in 1 2; do
      daemon "worker$number" org.apache.spark.deploy.worker.Worker --host 127.0.0.1 --port 0 --webui-port 0 --cores 1 \
        --memory 1g --work-dir "$folder/work$number" "$master"
    done
    await 'Registering worker' 2
    for pair in "CMHS_TARGET=spark" "CMHS_SPARK_MASTER=$master" "SPARK_CONF_DIR=$folder/conf"; do
      echo "export ${pair%%=*}='${pair#*=}'"
    done
    ;;
  stop)
    for pid in "$folder"/worker*.pid "$folder"/master.pid; do
      [ -f "$pid" ] || continue
      kill "$(cat "$pid")" 2>/dev/null || true
      # Where it was started with SIGTERM ignored, as by some schedulers, Java ignores it, too.
      for _ in $(seq 50); do kill -0 "$(cat "$pid")" 2>/dev/null || break; sleep 0.1; done
      kill -9 "$(cat "$pid")" 2>/dev/null || true
      while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.1; done
      rm "$pid"
    done
    rm -rf "$folder/work1" "$folder/work2" "$folder/local" "$folder/conf"
    ;;
  *) usage ;;
esac
