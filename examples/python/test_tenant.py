"""What the plugin's configuration means, without Wasm: `python3 -m unittest`."""

import json
import unittest

import tenant


class Prepare(unittest.TestCase):
    def test_reads_a_config(self):
        config = {"header": "X-Tenant", "clusters": {"acme": "acme", "globex": "big"}, "deny": ["mallory"]}
        cases = [
            (config, ("x-tenant", "x-witgate-tenant", {"acme": "acme", "globex": "big"}, ["mallory"])),
            (config | {"set_header": "X-Who"}, ("x-tenant", "x-who", {"acme": "acme", "globex": "big"}, ["mallory"])),
            ({"header": "x"}, ("x", "x-witgate-tenant", {}, [])),
        ]
        for config, expected in cases:
            with self.subTest(config=config):
                self.assertEqual(tenant.prepare(json.dumps(config)), expected)

    def test_refuses_a_wrong_config_by_its_key(self):
        cases = [
            ("{", "not JSON"),
            ("[]", "must be a table"),
            ("{}", "`header`"),
            ('{"header": "x tenant"}', "`header`"),
            ('{"header": "x", "clusters": {"a": 1}}', "`clusters`"),
            ('{"header": "x", "clusters": ["a"]}', "`clusters`"),
            ('{"header": "x", "deny": "a"}', "`deny`"),
            ('{"header": "x", "clusters": {"a": "b"}, "deny": ["a"]}', "`deny`: `a`"),
            ('{"header": "x", "set_header": 7}', "`set_header`"),
            ('{"header": "x", "cluster": {}}', "`cluster`: unknown key"),
        ]
        for config, expected in cases:
            with self.subTest(config=config), self.assertRaises(tenant.ConfigError) as refused:
                tenant.prepare(config)
            self.assertIn(expected, str(refused.exception))


if __name__ == "__main__":
    unittest.main()
