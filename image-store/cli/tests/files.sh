# Files of containers: the groups copy, writing and committing of run.sh, which reads this.

# cp, as Docker documents it. The rules themselves are tested in image-store/src/copy/tests.rs.
test_copy() {
  echo mine >"$W/f"; mkdir -p "$W/tree/sub"; echo x >"$W/tree/sub/x"; mkfifo "$W/tree/fifo"; ln "$W/tree/sub/x" "$W/tree/y"
  k create --name c -v v:/data -v "$W/tree:/host:ro" -v deep:/var/run/deep box sh -c 'cat /data/f; ls -i /data/tree/sub/x /data/tree/y' >/dev/null
  check 'cp into a volume of a container that was never started' k cp "$W/f" c:/data/
  check 'of a directory with a pipe and hard links' k cp "$W/tree" c:/data/
  same 'the container has them' "$(k start -a c | awk '{print $1}' | uniq -c | awk '{print $1}' | tr '\n' ' ')" '1 2 '
  same 'cp out of a volume of a stopped one' "$(k cp c:/data/f - | tar xO)" mine
  refuse 'a read-only volume is not written to' 'Read-only' k cp "$W/f" c:/host/
  same 'but it is read' "$(k cp c:/host/sub/x - | tar xO; ls "$W/tree")" $'x\nfifo\nsub\ny'
  k cp "$W/f" c:/var/run/deep/; same 'a volume whose mount point is missing' "$(cat "$W/store/volumes/deep/f")" mine
  none 'no mounts are left' "$(grep "$W" /proc/mounts)"
  same 'diff does not show volumes' "$(k diff c | grep -c data/f)" 0
  k rm c >/dev/null
  k run -d --name c box sh -c \
    'ln -s /etc/there /link; ln -s /data /dir; mkdir -p /run /var; ln -s /run /var/run; mknod /data/null c 1 3; exec sleep 100' >/dev/null
  soon k exec c test -e /data/null
  k cp "$W/f" c:/link
  same 'a link as target is followed, to what is not there yet, too' "$(k exec c sh -c 'cat /etc/there; readlink /link')" $'mine\n/etc/there'
  mkdir "$W/act"; (cd "$W/act" && mkdir -p var/run/act && echo a >var/run/act/a && tar -c var/run/act/a) | k cp - c:/
  same 'so are links that an archive goes through' "$(k exec c sh -c 'cat /run/act/a; readlink /var/run')" $'a\n/run'
  k cp c:/dir "$W/plain"; same 'a link as source is copied as a link' "$(readlink "$W/plain")" /data
  k cp -L c:/dir "$W/followed" 2>/dev/null; same '-L follows it' "$(cat "$W/followed/file")" from-image
  k cp c:/dir/. "$W/inside" 2>/dev/null; same 'so does /.' "$(cat "$W/inside/file")" from-image
  refuse 'a device is not copied to the host' 'devices are copied in archive mode only' k cp c:/data "$W/without"
  same 'but all else is' "$(cat "$W/without/file"; ls "$W/without"; stat -c %a "$W/without")" $'from-image\nfile\n755'
  k cp -a c:/data "$W/with"; same 'with -a it is' "$(stat -c '%F %t,%T' "$W/with/null")" 'character special file 1,3'
  k rm -fv c >/dev/null; k volume rm v deep >/dev/null
  copy_running
}

# What is mounted in a running container is copied only if it is a volume or the user's tmpfs; nothing is written to devices and pipes.
copy_running() {
  k run -d --name c -v v:/data -v "$W/tree:/host:ro" --tmpfs /memory box sh -c 'echo t >/memory/t; echo r >/r; exec sleep 100' >/dev/null
  soon k exec c test -e /r
  local mounted='[ -e all/proc -a -e all/sys -a -e all/dev ] && find all/proc all/sys all/dev -mindepth 1'
  check 'cp of the whole of a running container' k cp c:/ "$W/all"
  none 'without what the runtime mounts in it' "$(cd "$W" && eval "$mounted" || echo missing)"
  same 'with its files, volumes and tmpfs' "$(cd "$W/all" && cat r data/file host/sub/x memory/t)" $'r\nfrom-image\nx\nt'
  check 'the same as an archive' sh -c "'$BIN' --root '$W/store' cp c:/ - >'$W/all.tar'"
  same 'with the same names' "$(tar -tf "$W/all.tar" | sed 's,^\./,,; s,/$,,' | grep . | sort | md5sum)" \
    "$(cd "$W/all" && find . -mindepth 1 -printf '%P\n' | sort | md5sum)"
  for dir in proc sys dev; do check "cp of /$dir" k cp "c:/$dir" "$W/$dir"; none 'is empty' "$(ls -A "$W/$dir" 2>&1)"; done
  same 'a file of /proc is copied by name' "$(k cp c:/proc/sys/kernel/ostype - | tar xO)" Linux
  mknod "$W/null" c 1 3; mkfifo "$W/pipe"
  for target in null pipe; do
    refuse "cp onto a $target of the host" 'must be a directory or a regular file' k cp c:/r "$W/$target"
  done
  same 'they stay' "$(stat -c %F "$W/null" "$W/pipe")" $'character special file\nfifo'
  refuse 'cp onto a device of a container' 'must be a directory or a regular file' k cp "$W/f" c:/dev/null
  check 'it stays' k exec c test -c /dev/null
  # As /dev/stdout is, which must not be at stake here.
  ln -s /proc/self/fd/1 "$W/stdout"; refuse 'cp to standard output by its name' 'use "-"' k cp c:/r "$W/stdout"
  same 'the link stays' "$(readlink "$W/stdout")" /proc/self/fd/1
  printf 'hides\n' >"$W/.wh.r"; check 'cp of an archive with names of whiteouts' sh -c "tar -C '$W' -c .wh.r | '$BIN' --root '$W/store' cp - c:/"
  same 'copies them' "$(k exec c cat /.wh.r /r)" $'hides\nr'
  k rm -fv c >/dev/null; k volume rm v >/dev/null
  k run --name c box ln -s /no/such /lost && k commit c lost >/dev/null; k rm -v c >/dev/null; k create --name c -v v:/lost/below lost >/dev/null
  refuse 'cp into a volume below a link that leads nowhere, before the first start' 'leads nowhere: start' k cp "$W/f" c:/lost/below/
  k start c >/dev/null; k wait c >/dev/null; check 'after it' k cp "$W/f" c:/lost/below/
  k rm -v c >/dev/null; k rmi lost >/dev/null; k volume rm v >/dev/null
  none 'nothing is mounted by all that' "$(grep "$W" /proc/mounts)"
}

# Commit and export of containers that write all the time.
test_writing() {
  local loop='i=0; while :; do i=$((i+1)); for f in 1 2 3 4; do echo line $i of many more >>/log$f; done; mkdir -p /d/$i/e; rm -r /d; done'
  k run -d --name busy box sh -c "head -c 60m /dev/zero >/log1; $loop" >/dev/null; soon k exec busy test -s /log4
  local round; for round in 1 2 3; do
    k export busy >"$W/busy.tar"; same "export of a container that writes ($round)" "$? $(tar -tf "$W/busy.tar" | grep -c '^log[1-4]$')" '0 4'
    check "commit --pause=false ($round)" k commit -q --pause=false busy "busy:$round"
    check "commit ($round)" k commit -q busy "paused:$round"
    same 'all files are of the same moment' \
      "$(k run --rm "paused:$round" sh -c 'set -- $(wc -l </log1) $(wc -l </log4); [ $(($1 - $2)) -le 1 ] && echo same')" same
    k rmi "busy:$round" "paused:$round" >/dev/null
  done
  same 'it runs on' "$(k ps --format '{{.State}}')" running
  k pause busy >/dev/null; check 'commit of a paused one' k commit -q busy busy:4; same 'it stays paused' "$(k ps --format '{{.State}}')" paused
  k rmi busy:4 >/dev/null; k rm -fv busy >/dev/null
}

# A commit that would take hours: ended by signals, and killed.
test_committing() {
  local commit=none signal status command id
  k run -d --name big box sh -c 'dd if=/dev/null of=/big bs=1M seek=1000000 2>/dev/null; exec sleep 1000' >/dev/null; soon k exec big test -s /big
  id=$(k inspect --format '{{.Id}}' big)
  state() { k ps -a --format '{{.State}}' 2>/dev/null; }
  is() { [ "$(state)" = "$1" ]; }
  # begins: starts a commit that has paused the container soon.
  begins() { env --default-signal=INT,TERM,HUP,QUIT "$BIN" --root "$W/store" commit big big:2 >/dev/null 2>&1 & commit=$!; soon is paused; }
  for signal in INT:130 TERM:143 HUP:129; do
    status=${signal#*:} signal=${signal%:*}
    begins; same 'a commit pauses the container' "$(state)" paused
    refuse "which others leave alone" 'is paused' k exec big true; same 'as they do later' "$(state)" paused
    # A second signal makes no difference.
    { kill -$signal $commit; kill -$signal $commit; } 2>/dev/null; soon eval "! kill -0 $commit" || kill -9 $commit
    wait $commit 2>/dev/null; same "SIG$signal ends a commit" $? "$status"
    same 'the container runs on' "$(state)" running; none 'and nothing is left in the store' "$(ls "$W/store/ingest")"
  done
  for command in 'exec big true' 'unpause big' 'inspect big' 'stop -t 0 big' 'start big'; do
    [ "$command" = 'start big' ] || { begins; kill -9 $commit; wait $commit 2>/dev/null; }
    check "$command, after a commit was killed" k $command
    [ "$command" = 'stop -t 0 big' ] || same 'the container runs' "$(state)" running
  done
  begins; kill -9 $commit; wait $commit 2>/dev/null
  refuse 'ps tells of it' 'since the command that had paused it was killed' eval 'k ps 2>&1 >/dev/null; false'
  none 'once' "$(k ps 2>&1 >/dev/null)"
  begins; kill -9 $commit; wait $commit 2>/dev/null; begins; kill $commit; soon eval "! kill -0 $commit" || kill -9 $commit
  wait $commit 2>/dev/null; same 'the next commit resumes the container, too' "$(state)" running
  k pause big >/dev/null; k ps >/dev/null; same "a user's own pause stays" "$(state)" paused
  check 'rm -f' k rm -fv big
  none 'and nothing is left of its pauses' "$(ls "/run/knarr-image/pauses/$id" 2>/dev/null)"
}
