"""Lifecycle transitions that log their errors, refuse what the state does not allow, and load beside the executor."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lifecycle_msgs.msg import Transition as TransitionMessage
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.exceptions import InvalidHandle
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.task import Future

AnyNode = TypeVar("AnyNode", bound=LifecycleNode)
Transition = Callable[[AnyNode, LifecycleState], TransitionCallbackReturn]
Result = TypeVar("Result")
CONFIGURE = TransitionMessage.TRANSITION_CONFIGURE


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


class Loader:
    """A thread for what takes long, while the node's executor goes on with other callbacks; `busy` while it works.

    It is one thread, as glibc keeps memory per thread: with a new one each time, 90 configurations left 24 MB behind.
    """

    def __init__(self, node: Node) -> None:
        self.busy = False
        self._node, self._thread = node, ThreadPoolExecutor(1, "transition")

    async def run(self, function: Callable[[], Result]) -> Result:
        """The result of a function that runs in the thread."""
        future = Future(executor=self._node.executor)
        future.add_done_callback(_wake)

        def run() -> None:
            with contextlib.suppress(InvalidHandle):  # the node ended meanwhile
                try:
                    future.set_result(function())
                except Exception as error:  # raised where the future is awaited
                    future.set_exception(error)

        self.busy = True
        try:
            self._thread.submit(run)
            return await future
        finally:
            self.busy = False


def _wake(future: Future) -> None:
    """Does nothing; in rclpy 7.1, a future without a callback does not wake the executor that awaits it."""


def serve_transitions(node: LifecycleNode, loader: Loader) -> None:
    """Configure in the loader's thread, and answer the caller of a transition that the state does not allow.

    In rclpy 7.1, the error of such a transition ends the process.
    """
    (service,) = (s for s in node.services if s.srv_name.endswith("/change_state"))
    change_state = service.callback

    async def answer(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        wanted = request.transition
        try:
            # A label, where there is one, goes before the number.
            configure = wanted.label == "configure" if wanted.label else wanted.id == CONFIGURE
            if configure and not loader.busy:
                return await loader.run(functools.partial(change_state, request, response))
            return change_state(request, response)
        except RuntimeError as error:  # from rcl; rclpy handles exceptions of the transitions themselves
            if node.context.ok():
                node.get_logger().error(f"Transition {wanted.id} refused: {error}")
            response.success = False
            return response

    service.callback = answer
    service.callback_group = ReentrantCallbackGroup()  # else the node's other callbacks wait for the answer
    service.callback_group.add_entity(service)
