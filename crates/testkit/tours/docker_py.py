"""A tour of one daemon by docker-py: each verb that a script would use, what it gives, and how it refuses.

    docker_py.py SOCKET IMAGE PREFIX [API_VERSION]

IMAGE is a BusyBox image that is there. Whatever the tour makes is called by PREFIX and removed at its end. Without
API_VERSION the newest one is spoken that the library and the daemon have in common. It runs with docker-py 5 (Debian
12's python3-docker) and later, against any daemon; each stop prints its name, and the first surprise ends it with code 1.
"""

import io
import json
import sys
import tarfile
import threading
import traceback

import docker
from docker import errors
from docker.utils import version_gte
from docker.utils.socket import frames_iter

PATIENCE_S = 60
ON_TERMINAL = ["sh", "-c", "test -t 1 && echo terminal"]


def tar_of(**files):
    """A tar archive of files given as name=text."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def refused(kind, status, call, *args, **kwargs):
    """Calls, and expects the library's error for this status; gives the daemon's words."""
    try:
        result = call(*args, **kwargs)
    except kind as error:
        assert error.status_code == status, f"{error.status_code}, not {status}: {error}"
        return error.explanation
    raise AssertionError(f"{call} gave {result!r} where {status} was due")


class Tour:
    """One walk through a daemon."""

    def __init__(self, socket, image, prefix, version):
        self.client = docker.DockerClient(base_url=f"unix://{socket}", version=version, timeout=PATIENCE_S)
        self.api = self.client.api
        self.image = image
        self.prefix = prefix
        self.built = f"{prefix}-built"

    def at_least(self, version):
        """Whether the version that is spoken has what came with this one."""
        return version_gte(self.api._version, version)

    def name(self, name):
        return f"{self.prefix}-{name}"

    def start(self, name, command="sleep 1000", **kwargs):
        """A container that runs."""
        return self.client.containers.run(self.image, command, name=self.name(name), detach=True, **kwargs)

    def finish(self, container):
        """Waits for a container's end and gives its exit code and output."""
        code = container.wait()["StatusCode"]
        return code, container.logs()

    # --- the stops, in order

    def system(self):
        assert self.client.ping()
        version = self.client.version()
        assert version_gte(version["ApiVersion"], "1.41") and version["MinAPIVersion"] == "1.24", version
        info = self.client.info()
        assert info["OSType"] == "linux" and info["ContainersRunning"] >= 0 and info["Images"] > 0
        if self.at_least("1.25"):
            usage = self.client.df()
            if self.at_least("1.52"):
                assert usage["ImageUsage"]["TotalCount"] > 0, usage
            else:
                assert {"Images", "Containers", "Volumes"} <= set(usage), usage
                assert any(f"{self.image}:latest" in (image["RepoTags"] or []) for image in usage["Images"])

    def build(self):
        dockerfile = (
            f"FROM {self.image}\nARG who=nobody\nCOPY greeting /greeting\nRUN echo built for $who > /who\n"
            f'ENV A=1\nLABEL tour={self.prefix}\nEXPOSE 80\nCMD ["cat", "/greeting", "/who"]\n'
        )
        context = tar_of(Dockerfile=dockerfile, greeting="hello from a context\n")
        image, lines = self.client.images.build(
            fileobj=io.BytesIO(context), custom_context=True, tag=self.built, buildargs={"who": "tour"}, rm=True
        )
        said = "".join(line.get("stream", "") for line in lines)
        assert "Step 1/8" in said and "Successfully tagged" in said, said
        assert image.labels == {"tour": self.prefix} and "A=1" in image.attrs["Config"]["Env"]
        printed = self.client.containers.run(self.built, remove=True)
        assert printed == b"hello from a context\nbuilt for tour\n", printed
        again = tar_of(Dockerfile=f"FROM {self.image}\nRUN exit 7\n")
        try:
            self.client.images.build(fileobj=io.BytesIO(again), custom_context=True, rm=True)
            raise AssertionError("a step that fails was built")
        except errors.BuildError as error:
            assert "returned a non-zero code: 7" in str(error), error
        for text in ["FRM x\n", ""]:
            bad = io.BytesIO(tar_of(Dockerfile=text))
            refused(errors.APIError, 400, self.api.build(fileobj=bad, custom_context=True).__next__)

    def images(self):
        image = self.client.images.get(self.built)
        assert image.tags == [f"{self.built}:latest"]
        assert image.tag(self.name("other"), tag="v1")
        image.reload()
        assert sorted(image.tags) == sorted([f"{self.built}:latest", f"{self.name('other')}:v1"]), image.tags
        assert any("COPY" in step["CreatedBy"] for step in image.history())
        found = self.client.images.list(filters={"label": f"tour={self.prefix}"})
        assert [one.id for one in found] == [image.id]
        assert [one.id for one in self.client.images.list(name=self.name("other"))] == [image.id]
        archive = b"".join(image.save(named=True))
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            manifest = json.load(opened.extractfile("manifest.json"))
        assert manifest[0]["RepoTags"] == [f"{self.built}:latest"], manifest
        self.client.images.remove(f"{self.name('other')}:v1")
        self.client.images.remove(self.built)
        refused(errors.ImageNotFound, 404, self.client.images.get, self.built)
        loaded = self.client.images.load(archive)
        assert [one.id for one in loaded] == [image.id], "the same id comes back"
        refused(errors.ImageNotFound, 404, self.client.images.remove, self.name("nosuch"))
        refused(errors.APIError, 400, self.api.tag, self.built, "Not A Name")

    def runs(self):
        try:
            self.client.containers.run(self.image, ["sh", "-c", "echo out; echo bad >&2; exit 3"], remove=True)
            raise AssertionError("code 3 was taken for success")
        except errors.ContainerError as error:
            assert (error.exit_status, error.stderr) == (3, b"bad\n"), error
        script = ["sh", "-c", "echo out; echo bad >&2"]
        assert self.client.containers.run(self.image, script, remove=True, stderr=True, stdout=False) == b"bad\n"
        assert self.client.containers.run(self.image, ON_TERMINAL, remove=True, tty=True) == b"terminal\r\n"
        lines = self.client.containers.run(self.image, "seq 3", remove=True, detach=False, stream=True)
        assert b"".join(lines) == b"1\n2\n3\n"

    def lifecycle(self):
        kwargs = {"environment": {"A": "1"}, "labels": {"tour": self.prefix}, "hostname": "tourist"}
        one = self.client.containers.create(
            self.image, "sleep 1000", name=self.name("life"), stop_signal="KILL", **kwargs
        )
        assert (one.status, one.labels["tour"]) == ("created", self.prefix)
        one.start()
        one.reload()
        config = one.attrs["Config"]
        assert one.status == "running" and config["Hostname"] == "tourist" and "A=1" in config["Env"]
        one.start()
        one.pause()
        one.reload()
        assert one.status == "paused"
        refused(errors.APIError, 409, one.pause)
        refused(errors.APIError, 409, one.exec_run, "true")
        one.unpause()
        one.rename(self.name("renamed"))
        one.reload()
        assert one.name == self.name("renamed")
        assert [c.id for c in self.client.containers.list(filters={"label": f"tour={self.prefix}"})] == [one.id]
        refused(errors.APIError, 409, self.start, "renamed")
        refused(errors.APIError, 409, one.remove)
        one.restart(timeout=1)
        one.kill()
        assert one.wait()["StatusCode"] == 137
        one.reload()
        assert one.status == "exited"
        refused(errors.APIError, 409, one.kill)
        one.start()
        one.stop(timeout=1)
        assert [c.id for c in self.client.containers.list(filters={"name": self.name("ren")})] == []
        assert [c.id for c in self.client.containers.list(all=True, filters={"name": self.name("ren")})] == [one.id]
        one.remove()
        refused(errors.NotFound, 404, one.reload)
        refused(errors.NotFound, 404, self.client.containers.get, self.name("life"))

    def waits(self):
        one = self.start("waits", ["sh", "-c", "read line; exit 9"], stdin_open=True)
        codes = []
        conditions = ["not-running", "next-exit", "removed"] if self.at_least("1.30") else [None]
        waiting = [
            threading.Thread(target=lambda c=c: codes.append(one.wait(**({"condition": c} if c else {}))["StatusCode"]))
            for c in conditions
        ]
        for thread in waiting:
            thread.start()
        socket = one.attach_socket(params={"stdin": 1, "stream": 1})
        socket._sock.sendall(b"go\n")
        socket.close()
        one.wait()
        one.remove()
        for thread in waiting:
            thread.join(PATIENCE_S)
        assert codes == [9] * len(conditions), codes

    def logs(self):
        one = self.start("logs", ["sh", "-c", "for i in 1 2 3; do echo $i; done; echo end >&2"])
        one.wait()
        assert one.logs(stderr=False) == b"1\n2\n3\n" and one.logs(stdout=False) == b"end\n"
        # Two streams have no common order, so the last line may be of either.
        last = one.logs(tail=1)
        assert last in (b"3\n", b"end\n"), last
        stamp, line = one.logs(timestamps=True, tail=1).split(b" ", 1)
        assert stamp.endswith(b"Z") and line == last, (stamp, line)
        assert b"".join(one.logs(stream=True, follow=True, stderr=False)) == b"1\n2\n3\n"
        assert one.logs(since=4102444800) == b"", "nothing was written in the year 2100"
        one.remove()

    def attaches(self):
        for tty in [False, True]:
            one = self.client.containers.create(
                self.image, ["sh", "-c", "read line; echo got $line; echo err >&2"], stdin_open=True, tty=tty
            )
            params = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            socket = one.attach_socket(params=params)
            one.start()
            socket._sock.sendall(b"a line\n")
            got = {1: b"", 2: b""}
            for stream, text in frames_iter(socket, tty):
                # A terminal's stream has no number of its own in the library.
                got[1 if tty else stream] += text
            socket.close()
            if tty:
                assert got[1] == b"a line\r\ngot a line\r\nerr\r\n", got
            else:
                assert got == {1: b"got a line\n", 2: b"err\n"}, got
            assert one.wait()["StatusCode"] == 0
            one.remove()

    def execs(self):
        one = self.start("execs", environment={"A": "1"})
        code, output = one.exec_run(["sh", "-c", "echo $A; exit 5"])
        assert (code, output) == (5, b"1\n"), (code, output)
        code, (out, err) = one.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
        assert (out, err) == (b"out\n", b"err\n")
        assert one.exec_run("id -u", user="1000").output == b"1000\n"
        assert one.exec_run(ON_TERMINAL, tty=True).output == b"terminal\r\n"
        assert b"".join(one.exec_run("seq 3", stream=True).output) == b"1\n2\n3\n"
        if self.at_least("1.25"):
            assert one.exec_run(["sh", "-c", "echo $B"], environment={"B": "2"}).output == b"2\n"
        if self.at_least("1.35"):
            assert one.exec_run("pwd", workdir="/tmp").output == b"/tmp\n"
        made = self.api.exec_create(one.id, "cat", stdin=True)["Id"]
        assert self.api.exec_inspect(made)["Running"] is False
        socket = self.api.exec_start(made, socket=True)
        assert self.api.exec_inspect(made)["Running"] is True
        socket._sock.sendall(b"echoed")
        stream, text = next(frames_iter(socket, False))
        assert (stream, text) == (1, b"echoed")
        socket.close()
        # An exec that cannot be started says so, with the shell's code.
        assert one.exec_run("nosuch").exit_code == 127
        refused(errors.NotFound, 404, self.api.exec_inspect, "nosuch")
        refused(errors.NotFound, 404, self.api.exec_create, self.name("nosuch"), "true")
        one.remove(force=True)
        refused(errors.NotFound, 404, self.api.exec_inspect, made)

    def statistics(self):
        one = self.start("stats", mem_limit="64m")
        stats = one.stats(stream=False)
        assert stats["memory_stats"]["limit"] == 64 << 20, stats["memory_stats"]
        assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0 and stats["pids_stats"]["current"] == 1
        assert "eth0" in stats["networks"]
        stream = one.stats(decode=True)
        first, second = next(stream), next(stream)
        assert first["read"] < second["read"]
        stream.close()
        top = one.top()
        assert "PID" in top["Titles"] and top["Processes"][0][-1] == "sleep 1000", top
        assert one.top(ps_args="-o pid,comm")["Titles"] == ["PID", "COMMAND"]
        one.update(mem_limit="128m", memswap_limit="256m")
        one.reload()
        assert one.attrs["HostConfig"]["Memory"] == 128 << 20
        assert one.stats(stream=False)["memory_stats"]["limit"] == 128 << 20
        one.remove(force=True)

    def files(self):
        one = self.start("files")
        assert one.put_archive("/tmp", tar_of(one="1", two="two"))
        assert one.exec_run("cat /tmp/two").output == b"two"
        stream, stat = one.get_archive("/tmp/one")
        assert (stat["name"], stat["size"]) == ("one", 1), stat
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            assert archive.extractfile("one").read() == b"1"
        changed = {change["Path"]: change["Kind"] for change in one.diff()}
        assert changed == {"/tmp": 0, "/tmp/one": 1, "/tmp/two": 1}, changed
        refused(errors.NotFound, 404, one.get_archive, "/nosuch")
        refused(errors.NotFound, 404, one.put_archive, "/nosuch", tar_of(a="1"))
        with tarfile.open(fileobj=io.BytesIO(b"".join(one.export()))) as archive:
            assert archive.extractfile("tmp/two").read() == b"two"
        image = one.commit(self.name("committed"), tag="v1", message="a tour", changes='CMD ["cat", "/tmp/two"]')
        assert self.client.containers.run(image.id, remove=True) == b"two"
        assert image.history()[0]["Comment"] == "a tour"
        one.remove(force=True)
        self.client.images.remove(f"{self.name('committed')}:v1")

    def volumes(self):
        volume = self.client.volumes.create(self.name("volume"), labels={"tour": self.prefix})
        assert volume.attrs["Driver"] == "local" and volume.attrs["Labels"] == {"tour": self.prefix}
        binds = {volume.name: {"bind": "/data", "mode": "rw"}}
        self.client.containers.run(self.image, ["sh", "-c", "echo kept > /data/file"], volumes=binds, remove=True)
        one = self.start("volume", "cat /data/file", volumes=binds)
        assert self.finish(one) == (0, b"kept\n")
        mount = one.attrs["Mounts"][0]
        assert (mount["Name"], mount["Destination"], mount["RW"]) == (volume.name, "/data", True), mount
        refused(errors.APIError, 409, volume.remove)
        found = self.client.volumes.list(filters={"name": volume.name})
        assert [one.name for one in found] == [volume.name]
        one.remove()
        volume.remove()
        refused(errors.NotFound, 404, self.client.volumes.get, volume.name)
        refused(errors.APIError, 400, self.client.volumes.create, "not a name")

    def networks(self):
        names = {network.name for network in self.client.networks.list()}
        assert {"bridge", "host", "none"} <= names, names
        one = self.start("ports", ports={"80/tcp": None, "81/udp": ("127.0.0.1", None)})
        one.reload()
        bound = one.ports["81/udp"][0]
        assert bound["HostIp"] == "127.0.0.1" and int(bound["HostPort"]) > 0 and one.ports["80/tcp"], one.ports
        bridge = self.client.networks.list(names=["bridge"])[0]
        bridge.reload()
        assert one.id in bridge.attrs["Containers"], bridge.attrs
        address = one.attrs["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        assert bridge.attrs["Containers"][one.id]["IPv4Address"].split("/")[0] == address
        one.remove(force=True)
        refused(errors.NotFound, 404, self.client.networks.get, self.name("nosuch"))

    def events(self):
        seen, begun = [], threading.Event()
        stream = self.client.events(decode=True, filters={"type": "container", "label": f"tour={self.name('ev')}"})

        def watch():
            begun.set()
            for event in stream:
                seen.append(event["Action"])
                if event["Action"] == "destroy":
                    return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        begun.wait(PATIENCE_S)
        one = self.start("events", "true", labels={"tour": self.name("ev")})
        one.wait()
        one.remove()
        watcher.join(PATIENCE_S)
        stream.close()
        ours = [action for action in seen if action in ("create", "start", "die", "destroy")]
        assert ours == ["create", "start", "die", "destroy"], seen

    def prunes(self):
        if not self.at_least("1.25"):
            return
        label = {"tour": self.name("prune")}
        one = self.start("prune", "true", labels=label)
        one.wait()
        volume = self.client.volumes.create(self.name("prune"), labels=label)
        filters = {"label": f"tour={self.name('prune')}"}
        assert self.client.containers.prune(filters=filters)["ContainersDeleted"] == [one.id]
        # Since 1.42 a volume that has a name is kept unless it is said otherwise.
        also = {"all": True} if self.at_least("1.42") else {}
        assert self.client.volumes.prune(filters={**filters, **also})["VolumesDeleted"] == [volume.name]
        assert self.client.images.prune(filters=filters)["ImagesDeleted"] in (None, [])

    def refusals(self):
        refused(errors.ImageNotFound, 404, self.client.containers.create, self.name("nosuch"), "true")
        refused(errors.APIError, 400, self.client.containers.create, self.image, "true", name="a b")
        refused(errors.APIError, 400, self.client.containers.create, self.image, "true", stop_signal="NOSUCH")
        refused(errors.APIError, 400, self.client.containers.list, filters={"nosuch": "x"})
        refused(errors.NotFound, 404, self.api.start, self.name("nosuch"))
        one = self.client.containers.create(self.image, "nosuch", name=self.name("refusals"))
        said = refused(errors.APIError, 400, one.start)
        assert "executable file not found" in said, said
        one.remove()

    def leaves(self):
        self.client.images.remove(self.built)
        self.client.close()


STOPS = [
    Tour.system, Tour.build, Tour.images, Tour.runs, Tour.lifecycle, Tour.waits, Tour.logs, Tour.attaches,
    Tour.execs, Tour.statistics, Tour.files, Tour.volumes, Tour.networks, Tour.events, Tour.prunes,
    Tour.refusals, Tour.leaves,
]


def main():
    socket, image, prefix = sys.argv[1:4]
    tour = Tour(socket, image, prefix, sys.argv[4] if len(sys.argv) > 4 else "auto")
    print(f"docker-py {docker.__version__} speaks {tour.api._version}")
    failed = 0
    for stop in STOPS:
        try:
            stop(tour)
            print(f"ok {stop.__name__}", flush=True)
        except Exception:  # Whatever it is, it is said with its place.
            print(f"failed {stop.__name__}\n{traceback.format_exc()}", flush=True)
            failed += 1
            for one in tour.client.containers.list(all=True, filters={"name": prefix}):
                one.remove(force=True, v=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
