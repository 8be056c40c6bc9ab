#!/bin/bash
# The command itself: templates, quiet and JSON output, progress, exit codes, completion, manual pages.
#   command.sh [KNARR-IMAGE]
# Every check prints one line; the last line counts them.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(realpath "${1:-$HERE/../../../target/debug/knarr-image}")
. "$HERE/checks.sh"

k() { timeout -k 1 120 "$BIN" --root "$W/store" "$@"; }
code() { local name=$1 wanted=$2; shift 2; k "$@" >/dev/null 2>&1; same "$name" $? "$wanted"; }

# Thirty small layers in $W/many.
many_layers() {
  python3 - "$W/many" <<'PY'
import hashlib, io, json, os, sys, tarfile
directory = sys.argv[1]; os.makedirs(f"{directory}/blobs/sha256")
def blob(data):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{directory}/blobs/sha256/{digest}", "wb").write(data)
    return {"digest": f"sha256:{digest}", "size": len(data)}
def layer(number):
    out = io.BytesIO(); tar = tarfile.open(fileobj=out, mode="w"); info = tarfile.TarInfo(f"f{number}"); info.size = 100000
    tar.addfile(info, io.BytesIO(os.urandom(100000))); tar.close()
    return {"mediaType": "application/vnd.oci.image.layer.v1.tar", **blob(out.getvalue())}
layers = [layer(number) for number in range(30)]
machine = os.uname().machine.replace("x86_64", "amd64").replace("aarch64", "arm64")
config = {"architecture": machine, "os": "linux", "config": {},
          "rootfs": {"type": "layers", "diff_ids": [entry["digest"] for entry in layers]}}
manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", **blob(json.dumps(config).encode())}, "layers": layers}
entry = {"mediaType": manifest["mediaType"], **blob(json.dumps(manifest).encode()),
         "annotations": {"org.opencontainers.image.ref.name": "docker.io/library/many:1"}}
json.dump({"schemaVersion": 2, "manifests": [entry]}, open(f"{directory}/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(f"{directory}/oci-layout", "w"))
PY
}

test_output() {
  mkdir -p "$W/root/etc"; echo x >"$W/root/etc/file"; tar -C "$W/root" -cf "$W/root.tar" .
  ID=$(k import -c 'CMD ["/a","b"]' -c 'ENV A=b' -c 'LABEL x.y=z' "$W/root.tar" host:5000/team/app:1)
  k tag host:5000/team/app:1 app:2
  same 'import prints the ID alone' "${#ID} ${ID:0:7}" '71 sha256:'
  none 'tag prints nothing' "$(k tag app:2 app:3 2>&1)"
  same 'images as a table' "$(k images | head -1 | tr -s ' ')" 'REPOSITORY TAG IMAGE ID CREATED SIZE'
  same 'images --format' "$(k images --format '{{.Repository}}:{{.Tag}}' | sort | tr '\n' ' ')" 'app:2 app:3 host:5000/team/app:1 '
  same 'images --format table' "$(k images --format 'table {{.Repository}}\t{{.ID}}' app:2 | tr -s ' ' | tr '\n' ' ')" "REPOSITORY IMAGE ID app ${ID:7:12} "
  same 'images --format json is a line each' \
    "$(k images --format json | python3 -c 'import json,sys; print(sorted(json.loads(l)["Tag"] for l in sys.stdin))')" "['1', '2', '3']"
  same 'images --json is one list' "$(k images --json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))')" 3
  same 'images -q' "$(k images -q)" "${ID:7:12}"
  same 'images -q --no-trunc' "$(k images -q --no-trunc)" "$ID"
  same 'images --filter' "$(k images -q --filter reference='app:*' --format '{{.Tag}}' | wc -l)" 1
  same 'history --no-trunc --format' "$(k history --format '{{.ID}}' --no-trunc app:2)" "$ID"
  same 'inspect --format with index, range, join' \
    "$(k inspect -f '{{index .Config.Labels "x.y"}} {{range .Config.Env}}{{.}};{{end}} {{join .Config.Cmd ","}}' app:2)" 'z A=b; /a,b'
  same 'inspect --format json' "$(k inspect --format '{{json .Config.Cmd}}' app:2)" '["/a","b"]'
  same 'save | load of a pipe' "$(k save app:2 | timeout 60 "$BIN" --root "$W/other" load -q)" 'Loaded image: app:2'
  same 'load prints each name' "$(k save app:2 app:3 | timeout 60 "$BIN" --root "$W/names" load -q)" $'Loaded image: app:2\nLoaded image: app:3'
  same 'layers are compressed, or not, or nothing is saved' "$(for format in gzip zstd none xz; do
    k save --compression-format $format --format oci-dir -o "$W/as-$format" app:2 2>/dev/null; echo -n "$? "
    grep -aoh 'layer.v1.tar[+a-z]*' -r "$W/as-$format" 2>/dev/null; done | tr '\n' ' ')" '0 layer.v1.tar+gzip 0 layer.v1.tar+zstd 0 layer.v1.tar 1 '
  timeout 60 "$BIN" --root "$W/changes" import -c 'ENV A=1 \' -c '  B=2' -c 'ENV C="$A $B"' -c 'CMD ["x"]' -c 'ENTRYPOINT ["/y"]' -c 'WORKDIR w' \
    -c 'HEALTHCHECK --interval=5s CMD true' "$W/root.tar" changed >/dev/null
  same 'changes are those of a Dockerfile' "$(timeout 60 "$BIN" --root "$W/changes" inspect -f \
    '{{json .Config.Env}} {{.Config.Entrypoint}} {{.Config.Cmd}} {{.Config.WorkingDir}} {{.Config.Healthcheck.Interval}}' changed)" \
    '["A=1","B=2","C=1 2"] [/y] [x] /w 5000000000'
  none 'a wrong change creates nothing' "$(timeout 60 "$BIN" --root "$W/nothing" import -c 'STOPSIGNAL SIGFOO' "$W/root.tar" x 2>/dev/null; \
    timeout 60 "$BIN" --root "$W/nothing" images -q)"
  none 'nothing on standard error when quiet' "$(k save app:2 2>&1 >/dev/null | cat; k load -q -i <(k save app:2) 2>&1 >/dev/null)"
  same 'plain lines without a terminal' \
    "$(k save -o "$W/a.tar" app:2; timeout 60 "$BIN" --root "$W/third" load -i "$W/a.tar" 2>&1 >/dev/null | grep -c ': Complete$')" 1
  check 'bars on a terminal' timeout -k 1 300 python3 "$HERE/typed.py" "run:'$BIN' --root '$W/fourth' load -i '$W/a.tar'" 'expect:\x1b[K' \
    expect:Complete expect:'Loaded image' end:0
  many_layers
  local seen; seen=$(timeout -k 1 300 python3 "$HERE/screen.py" 8 40 "$BIN" --root "$W/fifth" load -i "$W/many")
  same 'more bars than a small terminal has lines: each is there once, in the end' "$(grep -c ': Complete$' <<<"$seen") $(wc -l <<<"$seen")" '30 31'
  same 'image and container before a command' "$(k image ls -q app) $(k container ls -aq | wc -l)" "$(k images -q app) 0"
  refuse 'inspect of containers only' 'no such container' k container inspect app:2
  refuse 'or of images only' 'not in the store' k inspect --type image nothing
  same 'images --filter label=' "$(k images --filter label=x.y=z --format '{{.Tag}}')" "$(k images --filter label=x.y --format '{{.Tag}}')"
  same '--version' "$(k --version)" "$(k version)"
  refuse 'no archive is written to a terminal' 'to a terminal' script -qec "'$BIN' --root '$W/store' save app:2" /dev/null
}

test_codes() {
  code 'no command: help' 0
  code 'an unknown command' 125 fly
  code 'an unknown flag' 125 images --nonsense
  code 'a missing argument' 125 tag app:2
  code 'an unknown image' 1 history nothing
  code 'one of two is unknown' 1 inspect app:2 nothing
  code 'an invalid name' 1 tag app:2 UPPER
  code 'an invalid template' 1 images --format '{{.Nope}}'
  code 'a broken store' 1 --root /proc/nothing images
  code 'run: its own failures' 125 run nothing-here:1 true
  refuse 'errors are one line' "^knarr-image: image \"nothing\": not in the store$" k history nothing
  mkdir "$W/bad"; local what; for what in '' 'not a tar' '{}'; do
    printf '%s' "$what" >"$W/bad/in"; k load -i "$W/bad/in" >/dev/null 2>&1; same "load of ${what:-nothing}" $? 1
  done
  code 'load of a directory that is not a layout' 1 load -i "$W/bad"
  same 'and nothing is left' "$(find "$W/store/ingest" "$W/store/leases" -mindepth 1 | wc -l) $(k images | wc -l)" '0 4'
}

# called PAGE: the command of a manual page, as it is typed.
called() { sed 's/^\(container\|image\|volume\)-/\1 /' <<<"$1"; }

# Every command with an argument too many, and without a required one: a usage error that changes nothing. The number of
# arguments is read from its help.
test_arguments() {
  local page words usage surplus=0 missing=0 bad=
  mkdir "$W/bare"
  wrong() { # wrong TEXT ARGUMENT...: is refused with this text and changes nothing
    local text=$1 said; shift
    said=$(cd "$W/bare" && HOME=$W/bare timeout -k 1 20 "$BIN" --root "$W/bare/store" "$@" 2>&1 </dev/null)
    [ "$?" = 125 ] && grep -q "$text" <<<"$said" && [ -z "$(ls -A "$W/bare")" ] || bad="$bad [$*: $said]"
  }
  for page in $(k man --list); do
    words=$(called "$page"); usage=$(k $words --help | sed -n "1s/^Usage: knarr-image $words \[OPTIONS\] \?//p")
    k $words --help | grep -q "^Usage: knarr-image $words COMMAND" && { wrong 'COMMAND is required' $words; wrong 'unknown command "x"' $words x; continue; }
    case $usage in
      '') wrong "^knarr-image: $words: takes no arguments" $words x; surplus=$((surplus + 1)) ;;
      *...*) ;;
      *) wrong "^knarr-image: $words: too many arguments" $words 1 2 3 4 5; surplus=$((surplus + 1)) ;;
    esac
    case $usage in ''|\[*) ;; *) wrong "^knarr-image: $words: .* is required" $words; missing=$((missing + 1)) ;; esac
  done
  none 'a surplus or a missing argument is a usage error of every command, and nothing is touched' "$bad"
  check 'there were enough of them' test $surplus -ge 25 -a $missing -ge 30
}

# Filters with an unknown key or without a value, of all commands with filters.
test_filters() {
  local page words flag value bad= some=0
  for page in $(k man --list); do
    words=$(called "$page"); k $words --help | grep -q -- '--filter KEY=VALUE' || continue
    some=$((some + 1)); local operand=; [ "$words" = search ] && operand=x
    for flag in --filter=x --filter=x=y; do
      value=$(k $words $flag $operand 2>&1 </dev/null); [ "$?" = 125 ] && grep -q "invalid filter 'x'" <<<"$value" || bad="$bad [$words $flag: $value]"
    done
  done
  none 'an unknown filter is refused with its name, by every command' "$bad"
  same 'there were enough of them' $some 7
  local filter; for filter in 'images dangling=perhaps' 'ps status=sleeping' 'ps exited=x' 'ps name=(' 'volume_ls dangling=2' \
    'volume_prune all=x' 'search stars=many'; do
    set -- $filter; refuse "$1 --filter $2 is refused" "invalid filter '$2'" k ${1/_/ } --filter "$2" $([ "$1" = search ] && echo x)
  done
  same 'of two values of one key, either is enough' "$(k images -q --filter reference=app:2 --filter reference=app:3 --format '{{.Tag}}')" "${ID:7:12}"
  none 'but every label must be there' "$(k images -q --filter label=x.y --filter label=other)"
}

# The question of image prune, and that nothing is removed without a yes.
test_prune() {
  local loose; loose=$(k import -c 'LABEL loose=1' "$W/root.tar")
  local answer; for answer in '' n '\n' no 'x\ny'; do
    printf "$answer" | k prune >"$W/said" 2>&1; same "prune, answered with '$answer': nothing goes" "$? $(k images -q --no-trunc | grep -c "$loose")" '0 1'
  done
  same 'it has asked' "$(cat "$W/said")" $'WARNING! This will remove all dangling images.\nAre you sure you want to continue? [y/N] '
  same 'prune -a says that it takes named ones' "$(k image prune -a </dev/null | head -1)" \
    'WARNING! This will remove all images without at least one container associated to them.'
  same 'prune --filter label!= keeps what has the label' \
    "$(k prune -f --filter 'label!=loose' | tail -1; k images -q --no-trunc | grep -c "$loose")" $'Total reclaimed space: 0B\n1'
  same 'yes | image prune' "$(yes | k image prune | sed -n 's/^deleted: \(sha256:.*\)/\1/p' | grep -cx "$loose")" 1
  none 'it is gone' "$(k images -q --no-trunc | grep "$loose")"
  same 'what has a name is still there' "$(k images -q | sort -u)" "${ID:7:12}"
}

test_generated() {
  local shell; for shell in bash zsh fish; do k completion $shell >"$W/completion.$shell"; done
  check 'bash reads its completion' bash -n "$W/completion.bash"
  same 'and completes commands' "$(bash -c '. "$1"; COMP_WORDS=(knarr-image unp) COMP_CWORD=1; _knarr_image; echo "${COMPREPLY[*]}"' _ \
    "$W/completion.bash")" unpause
  same 'and flags' "$(bash -c '. "$1"; COMP_WORDS=(knarr-image run --shm) COMP_CWORD=2; _knarr_image; echo "${COMPREPLY[*]}"' _ \
    "$W/completion.bash")" --shm-size
  same 'and images' "$(PATH=$(dirname "$BIN"):$PATH KNARR_IMAGE_ROOT=$W/store bash -c \
    '. "$1"; COMP_WORDS=(knarr-image rmi app:) COMP_CWORD=2; _knarr_image; echo "${COMPREPLY[*]}"' _ "$W/completion.bash")" 'app:2 app:3'
  same 'and the commands of a group' \
    "$(bash -c '. "$1"; COMP_WORDS=(knarr-image volume p) COMP_CWORD=2; _knarr_image; echo "${COMPREPLY[*]}"' _ "$W/completion.bash")" prune
  same 'and their flags' "$(bash -c \
    '. "$1"; COMP_WORDS=(knarr-image --root x volume prune --a) COMP_CWORD=5; _knarr_image; echo "${COMPREPLY[*]}"' _ "$W/completion.bash")" --all
  if command -v zsh >/dev/null; then check 'zsh reads its completion' zsh -n "$W/completion.zsh"; else skip 'zsh: is not here'; fi
  if command -v fish >/dev/null; then
    same 'fish completes commands' "$(fish --no-config -c 'source $argv[1]; complete -C "knarr-image unp"' "$W/completion.fish" | cut -f1)" unpause
    same 'and the commands of a group' "$(fish --no-config -c 'source $argv[1]; complete -C "knarr-image volume p"' "$W/completion.fish" | cut -f1)" prune
    same 'and their flags' "$(fish --no-config -c 'source $argv[1]; complete -C "knarr-image --root x volume prune --a"' "$W/completion.fish" | cut -f1)" --all
    none "and not another group's" \
      "$(PATH=$(dirname "$BIN"):$PATH KNARR_IMAGE_ROOT=$W/store fish --no-config -c \
        'source $argv[1]; complete -C "knarr-image volume rm --vol"' "$W/completion.fish")"
  else skip 'fish: is not here'; fi
  local page words bad=; for page in '' $(k man --list); do
    words=$(called "$page")
    k man $words >"$W/page" || bad="$bad $page"
    if command -v man >/dev/null; then [ -z "$(man --warnings -l "$W/page" 2>&1 >/dev/null)" ] || bad="$bad $page"; fi
    grep -q '^.SH SYNOPSIS' "$W/page" || bad="$bad $page"
    [ -z "$page" ] || { k $words --help | grep -q "^Usage: knarr-image $words" && k man "$page" | cmp -s - "$W/page"; } || bad="$bad $page"
  done
  none 'each command has a manual page and help' "$bad"
  same 'so has each command of a group' "$(k man --list | grep -cx 'volume\|volume-prune\|container\|container-prune\|image\|image-inspect')" 6
  same 'help of a command of a group' "$(k help volume prune; k image ls --help)" "$(k volume prune --help; k help image ls)"
  same 'the help of a group has its commands' "$(k volume --help | sed -n 's/^  \([a-z]*\) .*/\1/p' | tr '\n' ' ')" 'create inspect ls prune rm '
}

[ "$(id -u)" = 0 ] || { skip 'everything: needs root'; count; exit; }
for group in output codes arguments filters prune generated; do "test_$group"; done
count
