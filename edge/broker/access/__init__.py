"""Who may connect, and what they may publish and read. `access.py` is the broker's one door to it.

passwords.py   the password file: what a line says, whether a password is the one
checking.py    verification off the loop, bounded, remembered for a while
guessing.py    wrong passwords counted by address
topicsets.py   which filters cover, meet or match which
rules.py       the rules of an access file and the rights of one client under them
aclfile.py     access files: ours in TOML, and Mosquitto's as it is
access.py      the judgement on a CONNECT, and what reloading changes
"""
