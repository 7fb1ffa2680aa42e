"""A run that a program serves more than once."""

HEADS = {"gripper": 4, "arm": 9}
LOW = {"gripper": 0.02, "arm": 1.2}


def replaced(caplog):
    return [record.message for record in caplog.records if "replaces the former one" in record.message]


def trained(recorder, updates=4):
    for _ in range(updates):
        recorder.record(LOW, environment_steps=64, episodes=3, episode_return=2.0, update_duration=0.1)
    return recorder
