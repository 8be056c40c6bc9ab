"""What a client of containerd's shims needs: protobuf by field numbers, ttrpc calls, a server for their events, a shim's start and its
tasks. It must not know which shim it talks to, nor what is measured or tested with it."""
import collections, itertools, json, os, socket, struct, subprocess, threading

TASK = 'containerd.task.v3.Task'
PROCESS = 'types.containerd.io/opencontainers/runtime-spec/1/Process'


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def message(**fields):
    """A protobuf message: f1='text', f2=3, f3=b'message', f4=[...]; empty ones are left out."""
    out = b''
    for name, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int) and one:
                out += varint(int(name[1:]) << 3) + varint(one)
            elif isinstance(one, (str, bytes)) and one:
                data = one.encode() if isinstance(one, str) else one
                out += varint(int(name[1:]) << 3 | 2) + varint(len(data)) + data
    return out


def fields(data):
    """The fields of a message: {number: [values]}; texts and messages are bytes."""
    found, at = collections.defaultdict(list), 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
    while at < len(data):
        key = number()
        if key & 7 == 0:
            found[key >> 3].append(number())
        elif key & 7 == 2:
            size = number()
            found[key >> 3].append(data[at:at + size])
            at += size
        else:
            size = {1: 8, 5: 4}[key & 7]
            found[key >> 3].append(data[at:at + size])
            at += size
    return found


class Refused(Exception):
    """An answer that is an error: code, message."""


def receive(sock, size):
    data = b''
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError('the connection was closed')
        data += more
    return data


def frame(sock):
    size, stream, kind, _ = struct.unpack('>IIBB', receive(sock, 10))
    return stream, kind, receive(sock, size)


class Client:
    """One connection; `call` is for one thread, `begin` and `end` keep several calls under way."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(address.removeprefix('unix://'))
        self.streams, self.answers = itertools.count(1, 2), {}

    def begin(self, method, request=b'', service=TASK):
        stream = next(self.streams)
        body = message(f1=service, f2=method, f3=request)
        self.sock.sendall(struct.pack('>IIBB', len(body), stream, 1, 0) + body)
        return stream

    def end(self, stream):
        while stream not in self.answers:
            number, _, body = frame(self.sock)
            self.answers[number] = fields(body)
        answer = self.answers.pop(stream)
        status = fields(answer[1][0]) if answer[1] else {}
        if status.get(1):
            raise Refused(status[1][0], status[2][0].decode() if status[2] else '')
        return fields(answer[2][0] if answer[2] else b'')

    def call(self, method, request=b''):
        return self.end(self.begin(method, request))

    def close(self):
        self.sock.close()


class Events:
    """The server that shims send their events to: (topic, event) in the order of their coming, in `seen`."""

    def __init__(self, path):
        self.path, self.seen, self.arrived = path, [], threading.Condition()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            sock, _ = self.sock.accept()
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        try:
            while True:
                stream, _, body = frame(sock)
                envelope = fields(fields(fields(body)[3][0])[1][0])
                with self.arrived:
                    self.seen.append((envelope[3][0].decode(), fields(fields(envelope[4][0])[2][0])))
                    self.arrived.notify_all()
                sock.sendall(struct.pack('>IIBB', 0, stream, 2, 0))
        except (EOFError, OSError):
            sock.close()


def bundle(directory, name, args, root, group=None):
    """A bundle whose container runs `args` in the directory `root`."""
    path = os.path.join(directory, name)
    os.makedirs(os.path.join(path, 'rootfs'))
    subprocess.run(['runc', 'spec', '-b', path], check=True)
    with open(path + '/config.json') as file:
        config = json.load(file)
    config['process'].update(terminal=False, args=args)
    config['root'] = {'path': root, 'readonly': True}
    config['linux']['cgroupsPath'] = f'/bench/{name}'
    if group:
        config['annotations'] = {'io.containerd.runc.v2.group': group}
    with open(path + '/config.json', 'w') as file:
        json.dump(config, file)
    os.mkfifo(path + '/log')
    return path


class Shim:
    """A shim that serves, and the tasks that it was given."""

    def __init__(self, binary, path, events, name=None):
        self.binary, self.path, self.name = binary, path, name or os.path.basename(path)
        # containerd reads it; without a reader a shim would wait for one
        self.log = os.open(path + '/log', os.O_RDWR | os.O_NONBLOCK)
        self.environment = {'PATH': os.environ['PATH'], 'TTRPC_ADDRESS': events, 'GRPC_ADDRESS': '/run/bench.sock', 'NAMESPACE': 'bench',
                            'MAX_SHIM_VERSION': '2', 'GOMAXPROCS': '4'}
        self.words = [binary, '-namespace', 'bench', '-id', self.name, '-address', '/run/bench.sock', '-publish-binary', '/bin/true']

    def start(self):
        process = subprocess.run([*self.words, 'start'], cwd=self.path, env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, start_new_session=True)
        text = process.stdout.decode()
        if process.returncode:
            raise RuntimeError(f'{self.binary} start: {text}')
        self.address = json.loads(text)['address'] if text.startswith('{') else text.strip()
        self.client = Client(self.address)
        return self

    def pid(self):
        return self.client.call('Connect', message(f1=self.name))[1][0]

    def create(self, name=None, path=None, stdout=''):
        self.client.call('Create', message(f1=name or self.name, f2=path or self.path, f6=stdout))
        return self.client.call('Start', message(f1=name or self.name))[1][0]

    def execute(self, number, args, name=None):
        """An exec from its registration to its deletion: its exit status."""
        name, exec_id = name or self.name, f'exec{number}'
        spec = {'args': args, 'cwd': '/', 'env': ['PATH=/bin'], 'user': {'uid': 0, 'gid': 0}}
        self.client.call('Exec', message(f1=name, f2=exec_id, f7=message(f1=PROCESS, f2=json.dumps(spec))))
        self.client.call('Start', message(f1=name, f2=exec_id))
        status = self.client.call('Wait', message(f1=name, f2=exec_id))[1]
        self.client.call('Delete', message(f1=name, f2=exec_id))
        return status[0] if status else 0

    def end(self, name=None):
        name = name or self.name
        self.client.call('Kill', message(f1=name, f3=9))
        self.client.call('Wait', message(f1=name))
        self.client.call('Delete', message(f1=name))

    def shutdown(self):
        """The shim goes; containerd would then call `delete`, which removes what is left."""
        try:
            self.client.call('Shutdown', message(f1=self.name))
        except (Refused, OSError, EOFError):
            pass
        self.client.close()
        os.close(self.log)
        subprocess.run([*self.words, '-bundle', self.path, 'delete'], cwd=self.path, env=self.environment, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
