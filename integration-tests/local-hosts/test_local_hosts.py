"""The local EC2 and its hosts keep the promises that the walks rely on.

Needs `deploy/dev/setup` and `deploy/dev/services start`. Run: .dev/venv/bin/python integration-tests/local-hosts/test_local_hosts.py
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import uuid
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from hosts import DEV, processes_of

HERE = Path(__file__).resolve().parent
NETWORK = 97  # no other user of this folder takes it
OPTIONS = "-o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=5".split()


def until(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (result := what()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what.__name__}")
        time.sleep(0.05)
    return result


class LocalEc2:
    def __init__(self, state, *options):
        self.state = state
        command = [
            sys.executable,
            HERE / "local_ec2.py",
            "--state",
            state,
            "--network",
            str(NETWORK),
            "--end-with-stdin",
        ]
        self.process = subprocess.Popen([*command, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("ready:"), line
        self.facts = json.loads((state / "ec2.json").read_text())
        self.ec2 = self.client(self.facts["access_key"], self.facts["secret_key"])

    def client(self, access_key, secret_key):
        return boto3.client(
            "ec2",
            endpoint_url=self.facts["endpoint"],
            region_name=self.facts["region"],
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(retries={"total_max_attempts": 1}),
        )

    def control(self, path, data=None):
        body = json.dumps(data).encode() if data is not None else None
        with urllib.request.urlopen(f"{self.facts['control']}/{path}", body) as answer:
            return json.load(answer)

    def request(self, host_key=None, **changed):
        facts = self.facts
        user_data = ""
        if host_key:
            lines = "".join(f"    {line}\n" for line in host_key.read_text().splitlines())
            public = Path(f"{host_key}.pub").read_text()
            user_data = f"#cloud-config\nssh_keys:\n  ed25519_private: |\n{lines}  ed25519_public: {public}"
        request = {
            "ImageId": facts["ami"],
            "InstanceType": facts["instance_type"],
            "MinCount": 1,
            "MaxCount": 1,
            "SubnetId": facts["subnet"],
            "SecurityGroupIds": [facts["security_group"]],
            "KeyName": facts["key_name"],
            "UserData": user_data,
            "ClientToken": uuid.uuid4().hex,
        }
        return request | changed

    def launch(self, **changed):
        return self.ec2.run_instances(**self.request(**changed))["Instances"][0]

    def state_of(self, instance_id):
        found = self.ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [instance_id]}])["Reservations"]
        return found[0]["Instances"][0]["State"]["Name"] if found else None

    def host(self, instance_id):
        return next((h for h in self.control("hosts") if h["instance"] == instance_id), None)

    def wait(self, instance_id, state):
        def host_is_there():
            host = self.host(instance_id)
            assert not (host and host["error"]), host["error"]
            return host if host and host["state"] == state else None

        return until(host_is_there)

    def ssh(self, host, known_key, command):
        with tempfile.NamedTemporaryFile("w") as known:
            known.write(f"[{host['address']}]:{self.facts['ssh_port']} {known_key}\n")
            known.flush()
            return subprocess.run(
                ["ssh", *OPTIONS, "-o", f"UserKnownHostsFile={known.name}", "-i", self.facts["ssh_key"]]
                + ["-p", str(self.facts["ssh_port"]), f"{self.facts['ssh_user']}@{host['address']}", command],
                capture_output=True,
                text=True,
                timeout=60,
            )

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


class Case(unittest.TestCase):
    options = ()

    @classmethod
    def setUpClass(cls):
        (DEV / "run").mkdir(parents=True, exist_ok=True)
        cls.state = Path(tempfile.mkdtemp(prefix="t-", dir=DEV / "run"))
        cls.local = LocalEc2(cls.state, *cls.options)
        cls.host_key = cls.state / "host_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", cls.host_key], check=True)
        cls.known = Path(f"{cls.host_key}.pub").read_text().strip()

    @classmethod
    def tearDownClass(cls):
        cls.local.close()
        shutil.rmtree(cls.state)

    def assert_refused(self, code, call, **request):
        with self.assertRaises(ClientError) as caught:
            call(**request)
        self.assertEqual(caught.exception.response["Error"]["Code"], code)


class Ec2(Case):
    options = ("--pending", "0.5", "--ending", "0.5")

    def test_one_token_is_one_instance_for_ever(self):
        request = self.local.request()
        first = self.local.ec2.run_instances(**request)["Instances"][0]
        self.assertEqual(first["State"]["Name"], "pending")
        again = self.local.ec2.run_instances(**request)["Instances"][0]
        self.assertEqual(again["InstanceId"], first["InstanceId"])
        self.assert_refused(
            "IdempotentParameterMismatch", self.local.ec2.run_instances, **request | {"InstanceType": "t3.large"}
        )
        found = self.local.ec2.describe_instances(
            Filters=[{"Name": "client-token", "Values": [request["ClientToken"]]}]
        )
        self.assertEqual(found["Reservations"][0]["Instances"][0]["InstanceId"], first["InstanceId"])
        self.local.ec2.terminate_instances(InstanceIds=[first["InstanceId"]])
        self.assertEqual(self.local.state_of(first["InstanceId"]), "shutting-down")
        until(lambda: self.local.state_of(first["InstanceId"]) == "terminated")
        ended = self.local.ec2.run_instances(**request)["Instances"][0]
        self.assertEqual((ended["InstanceId"], ended["State"]["Name"]), (first["InstanceId"], "terminated"))

    def test_pending_passes_by_itself(self):
        instance = self.local.launch()["InstanceId"]
        self.assertEqual(self.local.state_of(instance), "pending")
        self.assertIsNone(self.local.host(instance))
        until(lambda: self.local.state_of(instance) == "running")

    def test_bad_requests_are_refused_as_by_ec2(self):
        run = self.local.ec2.run_instances
        self.assert_refused("InvalidAMIID.NotFound", run, **self.local.request(ImageId="ami-0123456789abcdef0"))
        self.assert_refused("InvalidKeyPair.NotFound", run, **self.local.request(KeyName="nobody"))
        facts = self.local.facts
        self.assert_refused("AuthFailure", self.local.client("AKIAOTHER", facts["secret_key"]).describe_instances)
        self.assert_refused("AuthFailure", self.local.client(facts["access_key"], "wrong").describe_instances)

    def test_errors_come_on_demand(self):
        self.local.control("errors", {"action": "RunInstances", "code": "InsufficientInstanceCapacity"})
        self.assert_refused("InsufficientInstanceCapacity", self.local.launch)
        # The effect without the answer: the same token finds the instance that was made.
        before = self.ids()
        request = self.local.request()
        self.local.control("errors", {"action": "RunInstances", "code": "drop", "after_effect": True})
        with self.assertRaises(BotoCoreError):
            self.local.ec2.run_instances(**request)
        made = self.ids() - before
        self.assertEqual({self.local.ec2.run_instances(**request)["Instances"][0]["InstanceId"]}, made)

    def ids(self):
        return {i["InstanceId"] for r in self.local.ec2.describe_instances()["Reservations"] for i in r["Instances"]}

    def test_a_new_instance_is_not_found_at_first(self):
        self.local.control("settings", {"notfound_lag": 1})
        self.addCleanup(self.local.control, "settings", {"notfound_lag": 0})
        instance = self.local.launch()["InstanceId"]
        self.assertIsNone(self.local.state_of(instance))
        self.assert_refused("InvalidInstanceID.NotFound", self.local.ec2.describe_instances, InstanceIds=[instance])
        until(lambda: self.local.state_of(instance) == "running")


class HostCase(Case):
    def launch(self, **changed):
        return self.local.launch(host_key=self.host_key, **changed)["InstanceId"]


class Hosts(HostCase):
    def test_a_host_lives_and_ends_with_its_instance(self):
        instance = self.launch()
        host = self.local.wait(instance, "up")
        done = self.local.ssh(host, self.known, "pwd; cd gatewayd && git describe --tags && echo $HOST:$PORT; exit 7")
        self.assertEqual(
            (done.returncode, done.stdout.split()), (7, [host["folder"], "v3.29.0", f"{host['address']}:5000"])
        )
        started = self.local.ssh(
            host, self.known, "cd gatewayd && bin/gateway get_key >/dev/null && pm2 ping && bin/gateway start"
        )
        self.assertIn("server", started.stdout)
        self.assertEqual(self.listed(host), ["server.js"])

        self.local.ec2.stop_instances(InstanceIds=[instance])
        self.local.wait(instance, "down")
        self.assertEqual(processes_of(Path(host["folder"])), set())
        self.local.ec2.start_instances(InstanceIds=[instance])
        self.local.wait(instance, "up")
        self.assertEqual(self.listed(host), [], "gatewayd starts by `start` only")

        self.local.ssh(host, self.known, "pm2 ping")
        self.local.ec2.terminate_instances(InstanceIds=[instance])
        self.local.wait(instance, "removed")
        self.assertEqual(processes_of(Path(host["folder"])), set())
        self.assertFalse(Path(host["folder"]).exists())

    def listed(self, host):
        done = self.local.ssh(host, self.known, 'pgrep -a -f "^[^ ]*node .*$(pwd -P)/gatewayd/processes/"')
        return [Path(line).name for line in done.stdout.split("\n") if line]

    def test_without_user_data_a_host_has_a_key_nobody_knows(self):
        host = self.local.wait(self.local.launch()["InstanceId"], "up")
        done = self.local.ssh(host, self.known, "true")
        self.assertEqual(done.returncode, 255)
        self.assertIn("Host key verification failed", done.stderr)

    def test_an_update_to_the_second_release(self):
        host = self.local.wait(self.launch(), "up")
        update = "cd gatewayd && git fetch --tags origin && git checkout --force v3.29.1 && npm install && timeout 30 grunt migrate"
        done = self.local.ssh(host, self.known, update)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Processed migration 20141004204719", done.stdout)

    def test_the_other_image_has_the_other_release(self):
        host = self.local.wait(self.launch(ImageId=self.local.facts["amis"]["3.29.1"]), "up")
        done = self.local.ssh(host, self.known, "cd gatewayd && git describe --tags && timeout 30 grunt migrate")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("v3.29.1", done.stdout)
        self.assertIn("No migrations to run", done.stdout)


class Ends(HostCase):
    def test_a_killed_local_ec2_leaves_nothing_after_the_next_start(self):
        host = self.local.wait(self.launch(), "up")
        self.local.ssh(host, self.known, "pm2 ping")
        os.kill(self.local.process.pid, signal.SIGKILL)
        self.local.close()
        self.assertTrue(processes_of(Path(host["folder"])), "the crash leaves them")
        type(self).local = LocalEc2(self.state)
        self.assertEqual(processes_of(Path(host["folder"])), set())

    def test_the_end_of_its_standard_input_ends_all(self):
        host = self.local.wait(self.launch(), "up")
        self.local.ssh(host, self.known, "pm2 ping")
        self.local.close()
        self.assertEqual(processes_of(Path(host["folder"])), set())
        self.assertEqual(list((self.state / "hosts").iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
