"""Lifecycle transitions that log their errors and refuse what the state does not allow."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

AnyNode = TypeVar("AnyNode", bound=LifecycleNode)
Transition = Callable[[AnyNode, LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition[AnyNode]) -> Transition[AnyNode]:
    """Logs an exception in a transition; rclpy turns it into ERROR without a message."""

    @functools.wraps(transition)
    def logged_transition(node: AnyNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception as error:
            if node.context.ok():  # else Ctrl-C shut ROS down during the transition
                node.get_logger().error(f"{transition.__name__}: {type(error).__name__}: {error}")
            raise

    return logged_transition


def refuse_invalid_transitions(node: LifecycleNode) -> None:
    """Answer the caller of a transition that the state does not allow; in rclpy 7.1 its error ends the process."""
    (service,) = (s for s in node.services if s.srv_name.endswith("/change_state"))
    change_state = service.callback

    def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except RuntimeError as error:  # from rcl; rclpy handles exceptions of the transitions themselves
            if node.context.ok():
                node.get_logger().error(f"Transition {request.transition.id} refused: {error}")
            response.success = False
            return response

    service.callback = answer
