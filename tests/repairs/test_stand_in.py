import json

from admin_fairseq.repairs.stand_in import StandIn


def test_only_what_is_replaced_differs():
    stand_in = StandIn(json, loads=len)
    assert stand_in.loads("[1, 2]") == 6
    assert stand_in.dumps is json.dumps
    assert json.loads("[1, 2]") == [1, 2]
