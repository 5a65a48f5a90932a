"""What rules of others do to guests' frames, whatever the guard lets pass. Pure.

Frames are judged in classes: a class has a set of possible values in each field, such as every port and every host
behind the uplink. So each condition holds for all of a class, for none, for some, or nobody knows.
"""
