from recsys_mtl.tracking import Machine


def test_the_machine_is_measured_under_names_that_mlflow_s_pages_know() -> None:
    machine = Machine()
    sum(range(200_000))
    found = machine.sample()
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= found.keys()
    assert 0 <= found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert found["system/network_receive_megabytes"] >= 0
    assert machine.sample().keys() == found.keys()
