"""Docker: the bridge, published ports, links, user networks and names."""
import ipaddress

from docker_engine import IMAGE, docker, host_pid, inspect, run, running, suite
from steps import contains, equal, matches, sh, until

step = suite.step
HTTPD = ("httpd", "-f", "-p", "80", "-h", "/srv/www")
PAGE = "served from a container\n"


def fetch(address):
    return until(f"http://{address} answers", lambda: sh("curl", "-s", "-m", "5", "--noproxy", "*", f"http://{address}/", rc=None))


def address(box, network="bridge"):
    return inspect(box, f'(index .NetworkSettings.Networks "{network}").IPAddress')


@step("the default bridge: an address inside, reached from outside, the way out through it")
def _():
    with running(cmd=HTTPD) as box:
        ip = address(box)
        assert ipaddress.ip_address(ip) in ipaddress.ip_network("172.17.0.0/16")
        contains(docker("exec", box, "ip", "addr"), f"inet {ip}/16", "LOOPBACK,UP")
        contains(docker("exec", box, "ip", "route"), "default via 172.17.0.1")
        contains(sh("ip", "addr", "show", "docker0"), "inet 172.17.0.1/16")
        equal(fetch(ip), PAGE)
        docker("exec", box, "ping", "-c", "1", "-W", "10", "172.17.0.1")


@step("-p 8000:80 answers curl")
def _():
    with running("-p", "8000:80", cmd=HTTPD) as box:
        equal(fetch("127.0.0.1:8000"), PAGE)
        equal(fetch("172.17.0.1:8000"), PAGE)
        contains(docker("port", box), "80/tcp -> 0.0.0.0:8000")
        # from one container to another one through the host's port
        equal(run("wget -qO- http://172.17.0.1:8000/"), PAGE)


@step("-p 80 and -P choose free ports, port names them")
def _():
    with running("-p", "80", cmd=HTTPD) as box:
        port = matches(docker("port", box, "80"), r"^0.0.0.0:(\d+)$").group(1)
        equal(fetch(f"127.0.0.1:{port}"), PAGE)
    with running("--expose", "80", "-P", cmd=HTTPD) as box:
        port = matches(docker("port", box, "80/tcp"), r"^0.0.0.0:(\d+)$").group(1)
        equal(fetch(f"127.0.0.1:{port}"), PAGE)


@step("a port that is taken: a clear error, and nothing was started")
def _():
    with running("-p", "8000:80", cmd=HTTPD):
        contains(docker("run", "-d", "--name", "late", "-p", "8000:80", IMAGE, *HTTPD, rc=125, both=True), "port is already allocated")
        equal(docker("ps", "-q", "-f", "name=late"), "")
        docker("rm", "late")


@step("--link gives variables and a name in /etc/hosts")
def _():
    with running("--expose", "80", cmd=HTTPD) as box:
        fetch(address(box))
        out = run("--link", f"{box}:web", "env; cat /etc/hosts; wget -qO- http://web/")
        contains(out, f"WEB_PORT_80_TCP_ADDR={address(box)}", f"{address(box)}\tweb", PAGE)


@step("--network none has loopback only, --network host has the host's")
def _():
    equal(run("--network", "none", "ls /sys/class/net"), "lo\n")
    contains(run("--network", "host", "ls /sys/class/net"), "docker0")


@step("--network container: shares the other one's loopback")
def _():
    with running(cmd=HTTPD) as box:
        fetch(address(box))
        equal(run("--network", f"container:{box}", "wget -qO- http://127.0.0.1/"), PAGE)


@step("user networks: names and aliases resolve, others do not, ls and inspect")
def _():
    docker("network", "create", "--subnet", "10.99.0.0/24", "blue")
    docker("network", "create", "green")
    try:
        contains(docker("network", "ls"), "blue", "green", "bridge", "host", "none")
        with running("--network", "blue", "--network-alias", "web", "--ip", "10.99.0.7", cmd=HTTPD) as box:
            contains(docker("network", "inspect", "blue"), box, "10.99.0.7")
            contains(run("--network", "blue", "cat /etc/resolv.conf"), "nameserver 127.0.0.11")
            until("the server answers", lambda: run("--network", "blue", f"wget -qO- http://{box}/", rc=None) == PAGE)
            equal(run("--network", "blue", "wget -qO- http://web/"), PAGE)
            run("--network", "green", f"! wget -T 3 -qO- http://{box}/ 2>/dev/null")
            docker("network", "connect", "green", box)
            until("it answers there too", lambda: run("--network", "green", f"wget -qO- http://{box}/", rc=None) == PAGE)
            docker("network", "disconnect", "green", box)
            run("--network", "green", f"! wget -T 3 -qO- http://{box}/ 2>/dev/null")
    finally:
        docker("network", "rm", "blue", "green")


@step("connect and disconnect change the interfaces of a running container")
def _():
    docker("network", "create", "extra")
    try:
        with running() as box:
            docker("network", "connect", "extra", box)
            contains(docker("exec", box, "ls", "/sys/class/net"), "eth0", "eth1")
            docker("network", "disconnect", "extra", box)
            assert "eth1" not in docker("exec", box, "ls", "/sys/class/net")
    finally:
        docker("network", "rm", "extra")


@step("--hostname, --add-host, --dns and --mac-address")
def _():
    out = run("-h", "demo", "--add-host", "there:10.1.2.3", "--dns", "10.9.9.9", "--mac-address", "02:42:ac:11:00:99",
              "hostname; cat /etc/hosts /etc/resolv.conf /sys/class/net/eth0/address")
    contains(out, "demo\n", "10.1.2.3\tthere", "nameserver 10.9.9.9", "02:42:ac:11:00:99")


@step("the interfaces of a container are gone with it")
def _():
    with running() as box:
        assert host_pid(box)
        contains(sh("ip", "link"), "veth")
    until("no veth left", lambda: "veth" not in sh("ip", "link"))
